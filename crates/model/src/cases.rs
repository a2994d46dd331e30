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
        calm: false,
    }
}

const fn calm(ticks: u64, faults: u8, asks: u8) -> Bounds {
    Bounds {
        calm: true,
        ..bounds(ticks, faults, asks)
    }
}

const SKEWED: Setting = Setting {
    skewed: true,
    ..Setting::pair(Start::Running)
};

const DEAF: Setting = Setting {
    deaf: true,
    ..Setting::pair(Start::Running)
};

const WITHOUT_WITNESS: Setting = Setting {
    witness: false,
    ..Setting::pair(Start::Cold)
};

const THREE: Setting = Setting {
    nodes: 3,
    witness: false,
    ..Setting::pair(Start::Running)
};

/// No network between the nodes, only the disk.
const APART: Setting = Setting {
    apart: true,
    ..Setting::with_disk(Start::Running)
};

const APART_AND_SKEWED: Setting = Setting {
    skewed: true,
    ..APART
};

/// Everything that must hold, checked in this order.
pub const CASES: [Case; 13] = [
    Case {
        name: "pair and witness: a fault anywhere",
        setting: Setting::pair(Start::Running),
        bounds: bounds(8, 1, 0),
    },
    Case {
        name: "pair and witness: a request, a fault anywhere",
        setting: Setting::pair(Start::Running),
        bounds: bounds(6, 1, 1),
    },
    Case {
        name: "pair and witness: two faults of hosts",
        setting: Setting::pair(Start::Running),
        bounds: calm(7, 2, 0),
    },
    Case {
        name: "pair and witness: clocks 2 % apart",
        setting: SKEWED,
        bounds: bounds(8, 1, 0),
    },
    Case {
        name: "pair and witness: disarmed, armed again",
        setting: Setting::pair(Start::Disarmed),
        bounds: bounds(6, 1, 1),
    },
    Case {
        name: "pair without a third vote",
        setting: WITHOUT_WITNESS,
        bounds: bounds(7, 1, 0),
    },
    Case {
        name: "pair and witness: node 2 does not hear node 1",
        setting: DEAF,
        bounds: calm(7, 2, 0),
    },
    Case {
        name: "three nodes: a fault anywhere",
        setting: THREE,
        bounds: bounds(7, 1, 0),
    },
    Case {
        name: "pair and quorum disk: a fault anywhere",
        setting: Setting::with_disk(Start::Running),
        bounds: bounds(8, 1, 0),
    },
    Case {
        name: "pair and quorum disk: a request, a fault anywhere",
        setting: Setting::with_disk(Start::Running),
        bounds: bounds(6, 1, 1),
    },
    Case {
        name: "quorum disk alone: a fault anywhere",
        setting: APART,
        bounds: bounds(10, 1, 0),
    },
    Case {
        name: "quorum disk alone: two faults of hosts or disk",
        setting: APART,
        bounds: calm(8, 2, 0),
    },
    Case {
        name: "quorum disk alone: clocks 2 % apart",
        setting: APART_AND_SKEWED,
        bounds: bounds(10, 1, 0),
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
pub const PLANTED: [Planted; 12] = [
    planted(
        Fault::StartWithoutCheck,
        Setting::pair(Start::Running),
        bounds(8, 1, 0),
    ),
    planted(Fault::NoDriftMargin, SKEWED, bounds(8, 1, 0)),
    planted(
        Fault::LeaseFromReceipt,
        Setting::pair(Start::Running),
        bounds(9, 1, 0),
    ),
    planted(Fault::NoSilenceAfterHostRestart, DEAF, calm(7, 2, 0)),
    planted(Fault::GuardForgetsPromises, DEAF, calm(7, 2, 0)),
    planted(
        Fault::UnpinWithoutHolder,
        Setting::pair(Start::Disarmed),
        calm(9, 1, 1),
    ),
    planted(
        Fault::VoteTwice,
        Setting::pair(Start::Cold),
        bounds(5, 1, 0),
    ),
    planted(Fault::DiskReadsFirst, APART, bounds(10, 1, 0)),
    planted(Fault::DiskKeepsOldRead, APART, bounds(10, 1, 0)),
    planted(Fault::DiskDoesNotWait, APART, bounds(10, 1, 0)),
    planted(Fault::LeaseFromReceipt, APART, bounds(10, 1, 0)),
    planted(Fault::NoDriftMargin, APART_AND_SKEWED, bounds(10, 1, 0)),
];
