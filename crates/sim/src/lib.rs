//! Deterministic cluster simulator with fault injection and safety checkers.
