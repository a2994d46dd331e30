//! What `cargo xtask model` checks.

use crate::setting::{Bounds, Setting, Start};
use hotpair_core::fault::Fault;

/// A cluster and how far it is checked.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub setting: Setting,
    pub bounds: Bounds,
}

/// A deliberate bug, and where it shows.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    pub fault: Fault,
    pub setting: Setting,
    pub bounds: Bounds,
}

const fn bounds(ticks: u64, faults: u8, asks: u8) -> Bounds {
    Bounds {
        ticks,
        faults,
        asks,
    }
}

const SKEWED: Setting = Setting {
    skewed: true,
    ..Setting::pair(Start::Running)
};

const WITHOUT_WITNESS: Setting = Setting {
    witness: false,
    ..Setting::pair(Start::Running)
};

const THREE: Setting = Setting {
    nodes: 3,
    witness: false,
    ..Setting::pair(Start::Running)
};

/// Everything that must hold, checked in this order.
pub const CASES: [Case; 6] = [
    Case {
        name: "pair and witness, running",
        setting: Setting::pair(Start::Running),
        bounds: bounds(7, 2, 0),
    },
    Case {
        name: "pair and witness, running, a request",
        setting: Setting::pair(Start::Running),
        bounds: bounds(8, 1, 1),
    },
    Case {
        name: "pair and witness, running, clocks 2 % apart",
        setting: SKEWED,
        bounds: bounds(8, 1, 1),
    },
    Case {
        name: "pair and witness, disarmed",
        setting: Setting::pair(Start::Disarmed),
        bounds: bounds(8, 1, 1),
    },
    Case {
        name: "pair without a third vote",
        setting: WITHOUT_WITNESS,
        bounds: bounds(8, 1, 1),
    },
    Case {
        name: "three nodes",
        setting: THREE,
        bounds: bounds(7, 1, 1),
    },
];

const fn planted(fault: Fault, setting: Setting, bounds: Bounds) -> Planted {
    Planted {
        fault,
        setting,
        bounds,
    }
}

/// Bugs that must be found.
pub const PLANTED: [Planted; 3] = [
    planted(
        Fault::StartWithoutCheck,
        Setting::pair(Start::Running),
        bounds(8, 1, 0),
    ),
    planted(
        Fault::PermitOutlivesLease,
        Setting::pair(Start::Running),
        bounds(8, 1, 0),
    ),
    planted(Fault::NoDriftMargin, SKEWED, bounds(8, 1, 0)),
];
