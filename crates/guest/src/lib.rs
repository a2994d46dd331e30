//! Test hosts with a kernel of their own: QEMU guests that boot Debian's kernel in about three
//! seconds, for what namespaces cannot give (kernel drivers, clocks that stop, a lock of one's own).
//!
//! ```text
//!   this process                       QEMU (software emulation, one process for each guest)
//!   ├── Console ── Unix socket ────────── virtio port ── agent: a shell in the guest runs commands
//!   ├── Monitor ── Unix socket ────────── QMP: stop, cont
//!   └── thread that waits for it          kernel, and a root file system in memory made by
//!                                         `initramfs`: busybox, modules, programs
//! ```
//! [`Guest::boot`] is the way in. Guests end with the process that booted them, however it ends.
//! What they are made of is fetched by `scripts/setup-guests`.
#![forbid(unsafe_code)]

mod console;
pub mod drbd;
mod error;
pub mod fio;
pub mod flakey;
mod guest;
mod initramfs;
mod kernel_modules;
mod monitor;
mod pair;
mod parts;
mod place;
mod scratch;

pub use console::Output;
pub use error::{GuestError, Result};
pub use guest::{Disk, File, Guest, Spec};
pub use pair::{Pair, PairSpec};
pub use parts::Parts;
pub use place::{Nic, Place, Wire, plug_into_lab};
