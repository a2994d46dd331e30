//! Model checker of a small cluster: every schedule within stated bounds, on the real core.
//!
//! ```text
//!   World (hosts, wires, ledger) --- Choice ---> World
//!     Go:    deliver what is on the wires; when nothing is, the next tick of the clock
//!     fault: crash, freeze, cut, lose, hold back, repeat, kill daemon or guard  (bounded number)
//!     ask:   one request of the operator                                       (bounded number)
//! ```
//!
//! The reduction: without faults a schedule is fixed (all that is sent in one round arrives in the
//! next, in the order of members), and every departure from it is a choice that costs one of a
//! bounded number of faults. So all schedules with up to that many departures are tried, at every
//! round, until a bounded number of ticks has passed. `docs/internals/arbitration.md` says which
//! step of the safety argument rests on which property.
#![forbid(unsafe_code)]

pub mod cases;
mod check;
mod choice;
mod host;
mod ledger;
mod model;
mod setting;
mod world;

pub use check::Rule;
pub use choice::{Ask, Channel, Choice};
pub use ledger::Ledger;
pub use model::{Found, Outcome, Pair, check};
pub use setting::{Bounds, Setting, Start};
pub use world::World;
