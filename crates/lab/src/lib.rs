//! Practice clusters on one machine: hosts made of namespaces, faults, outside client and referee.
//!
//! ```text
//!   keeper (one process)                     switch (network namespace)
//!   ├── node1: process 1 ── services          br-lan ── node1-lan, node2-lan, witness-lan, client-lan
//!   ├── node2: process 1 ── services          br-hb  ── node1-hb, node2-hb
//!   ├── witness
//!   └── client
//! ```
//! Each host has its own PID, network, mount, UTS and IPC namespace and its own cgroup. It sees the
//! machine's file system, with its own layer over `/etc`, `/var/lib` and `/srv`, its own `/run`, `/proc`
//! and `/sys`; `/tmp` is the machine's. `hotpair` in a host is the program that started the lab.
//!
//! [`Lab`] is the way in for tests and the benchmark, [`cli`] for the command line.
#![forbid(unsafe_code)]

pub mod cgroup;
mod clean;
pub mod cli;
pub mod clock;
mod control;
mod enter;
mod error;
mod fault;
mod host;
mod init;
mod inject;
mod keeper;
mod lab;
mod loops;
mod netns;
mod paths;
pub mod plan;
pub mod probe;
mod rtnl;
mod rtnl_hold;
mod sample;
mod switch;

pub use clean::remove_stale;
pub use control::{HostState, HostStatus, Injection, Status};
pub use error::{LabError, Result};
pub use fault::{Direction, Fault, NAMES as FAULTS, Target};
pub use host::Program;
pub use init::Boot;
pub use lab::{Lab, require_root};
pub use netns::Netns;
pub use plan::{Plan, Profile, Shape, Witness};
pub use switch::ip_batch;
