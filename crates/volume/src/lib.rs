//! The bytes of a mirror.
//!
//! ```text
//!   application -> filesystem -> block device
//!                                    | export: FUSE + loop
//!                                    v
//!   orders, work, commands --> [ driver: one loop, one thread ] --> reports, completions
//!                                    |  Event          ^ Effect
//!                                    v                 |
//!                              engine::Engine (pure: no I/O, clock, threads)
//!                                    |
//!              local disk, metadata <+> replication link (TLS) to the peer's driver
//! ```
//!
//! - [`engine`] decides what is read, written, sent and acknowledged, and in which order. It never sees
//!   payload bytes, only [`engine::BufferId`]s, so the same code runs in the simulator.
//! - [`store`] is the format of the metadata on disk: superblock, activity log, bitmap.
//! - [`link`] is the format of the replication protocol.
//! - [`driver`] carries effects out: io_uring, sockets, the write gate.
//! - [`export`] gives the kernel a block device.

pub mod driver;
pub mod engine;
pub mod export;
pub mod fault;
pub mod link;
pub mod memory;
pub mod place;
pub mod process;
pub mod protocol;
pub mod ring;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
#[cfg(feature = "pass-through")]
pub mod testing;
