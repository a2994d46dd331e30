//! Tests with real processes, cgroups and network namespaces; they need root.

mod addresses;
mod bench;
mod detectors;
mod programs;
mod services;
mod verdicts;
