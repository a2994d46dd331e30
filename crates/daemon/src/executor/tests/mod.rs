//! Tests with real processes, cgroups and network namespaces; they need root.

mod addresses;
mod bench;
mod detectors;
mod hooks;
mod mounts;
mod ocf;
mod programs;
mod services;
mod templates;
mod verdicts;
