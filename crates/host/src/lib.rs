//! Adapters to the operating system, one module per outside thing.

pub mod apart;
pub mod cgroup;
pub mod clock;
pub mod detect;
pub mod durable;
pub mod filesystem;
pub mod gate_file;
pub mod net;
pub mod ocf;
pub mod process;
pub mod rt;
pub mod shared_disk;
