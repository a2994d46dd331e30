//! The deciding half of one mirror on one node. Pure; see `docs/internals/mirror.md`.

mod event;

pub use event::{
    BufferId, Command, Effect, Event, IoError, IoId, Outcome, Session, Ticket, Token, Transfer,
};

/// What the two sides of a mirror say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A placeholder until the protocol is written down.
    Hello,
}
