//! The daemon, the guard process and the witness: the only owners of the decision state machines.
