//! Are the hosts of a cluster fit for it?
//!
//! ```text
//!  configuration -> Wanted -> gather() on every host -> Host
//!                                                        |
//!       configuration, links and witness as seen --------+--> findings() -> Report -> text, JSON, HTML
//! ```
//! [`gather`] only looks and never judges; [`findings`] is pure. A fact that cannot be found out is `None` or
//! missing, and no rule makes a finding of it.
#![forbid(unsafe_code)]

mod gather;
mod html;
mod rules;
mod wanted;

pub use gather::gather;
pub use html::html;
pub use rules::{Asked, Finding, Given, LinkSeen, Report, Severity, findings};
pub use wanted::wanted;
