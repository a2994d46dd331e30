//! Databases on a mirror whose nodes lose power, and clients outside that keep a ledger.
//!
//! A [`Scene`] is a practice cluster with a database made by its template. A [`Ledger`] is kept by
//! clients in the lab's client host: numbered rows, inserted over the virtual IP by several
//! connections, and for each commit that was acknowledged a line in a file of the machine, which does
//! not lose power. After each [`Cut`] every acknowledged row must be in the table exactly once.
#![forbid(unsafe_code)]

mod database;
mod error;
mod ledger;
mod mariadb;
mod parts;
mod postgres;
mod round;
mod scene;

pub use database::Database;
pub use error::{LedgerError, Result};
pub use ledger::{Ack, Ledger};
pub use parts::Parts;
pub use round::{Cut, Outcome};
pub use scene::{Options, Scene};
