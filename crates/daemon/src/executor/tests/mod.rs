//! Tests with real processes, cgroups and network namespaces; they need root.
