//! What goes wrong and what the operator does: drawn before the run, so that it can be shrunk.

use crate::mirror::MirrorFault;
use crate::rng::Rng;

/// Something that happens to the simulated world. Hosts are indices, spans are microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing arrives from one host at the other.
    OneWayCut {
        from: usize,
        to: usize,
        for_us: u64,
    },
    /// Nothing passes between two hosts.
    Cut {
        a: usize,
        b: usize,
        for_us: u64,
    },
    /// The host hears nobody, or nobody hears it, or both.
    Isolate {
        host: usize,
        inward: bool,
        outward: bool,
        for_us: u64,
    },
    /// More loss, repetition and lateness for everybody.
    Storm {
        loss_ppm: u64,
        late_ppm: u64,
        for_us: u64,
    },
    /// Power cut; the host boots again after `for_us`.
    PowerCut {
        host: usize,
        for_us: u64,
    },
    /// Power cut of every host.
    Blackout {
        for_us: u64,
    },
    KillDaemon {
        host: usize,
        for_us: u64,
    },
    FreezeDaemon {
        host: usize,
        for_us: u64,
    },
    KillGuard {
        host: usize,
        for_us: u64,
    },
    FreezeGuard {
        host: usize,
        for_us: u64,
    },
    /// Nothing is processed, but time passes and the kernel's deadlines run out.
    Pause {
        host: usize,
        for_us: u64,
    },
    /// A stopped virtual machine: nothing is processed and its clocks stand still.
    StopClocks {
        host: usize,
        for_us: u64,
    },
    /// CLOCK_BOOTTIME is slewed as chrony may do it.
    Slew {
        host: usize,
        ppm: i64,
        for_us: u64,
    },
    /// No write to the disk ends (full, or hanging).
    StuckDisk {
        host: usize,
        for_us: u64,
    },
    /// Writes take `times` as long.
    SlowDisk {
        host: usize,
        times: u64,
        for_us: u64,
    },
    /// A running resource of the group dies, wherever it runs.
    Die {
        group: usize,
        resource: usize,
    },
    /// Starts (or stops) of this resource on this host go wrong.
    Spoil {
        host: usize,
        group: usize,
        resource: usize,
        how: Spoil,
        for_us: u64,
    },
    /// The operator does something.
    Operator {
        at: usize,
        what: Operator,
    },
    /// Of a mirror, if the cluster has one.
    Mirror(MirrorFault),
    /// `fault` happens `delay_us` after the next `trigger`.
    After {
        trigger: Trigger,
        delay_us: u64,
        fault: Box<Fault>,
    },
}

/// How a resource misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    StartFails,
    StartHangs,
    StopFails,
    StopHangs,
    /// The detectors say the opposite of the truth.
    Lie,
    /// The host could not run it (no carrier, program missing).
    Unfit,
}

/// Moments at which a fault hits hardest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A new version is known to be committed somewhere.
    Commit,
    /// A member becomes leader.
    Leader,
    /// A guard gives a permit.
    Permit,
    /// A resource is asked to stop.
    Stop,
    /// A durable write begins.
    Write,
}

/// What the operator may do. Numbers are taken modulo what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    Switch {
        group: usize,
        to: Option<usize>,
    },
    Start {
        group: usize,
        on: Option<usize>,
    },
    Stop {
        group: usize,
    },
    Enable {
        group: usize,
        node: Option<usize>,
    },
    Disable {
        group: usize,
        node: Option<usize>,
    },
    Clear {
        group: usize,
    },
    Maintenance {
        scope: usize,
        group: usize,
        node: usize,
        on: bool,
    },
    Disarm,
    Arm,
    Drain {
        node: usize,
    },
    Undrain {
        node: usize,
    },
    Leave {
        node: usize,
        force: bool,
    },
    ClearNode {
        node: usize,
    },
    /// Power cut, and some time later the operator's (true) word on it.
    DeclareDown {
        node: usize,
        for_us: u64,
    },
    /// Power cut, and the node is taken out of the configuration.
    Remove {
        node: usize,
    },
    /// Another timing profile.
    Timing {
        draw: u64,
    },
    /// A spare host becomes a node, or the witness (replacing the present one).
    AddNode,
    ReplaceWitness,
    RemoveWitness,
    /// Some group's policies are edited.
    Policy {
        group: usize,
        draw: u64,
    },
    /// One resource is stopped, started or started again.
    Resource {
        group: usize,
        resource: usize,
        verb: Verb,
    },
}

/// What is asked of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Stop,
    Start,
    Restart,
}

const SECOND: u64 = 1_000_000;

/// Which faults a seed is about: a weight for each kind, many of them zero.
struct Mix {
    weights: [u64; KINDS],
    hosts: usize,
}

const KINDS: usize = 18;

/// Draws what goes wrong during `phase_us`, in order of time.
pub fn draw(rng: &mut Rng, hosts: usize, phase_us: u64) -> Vec<(u64, Fault)> {
    let mut mix = Mix {
        weights: [0; KINDS],
        hosts,
    };
    let calm = rng.percent(20);
    for weight in &mut mix.weights {
        if rng.percent(if calm { 20 } else { 60 }) {
            *weight = rng.range(1, 10);
        }
    }
    mix.weights[KINDS - 1] += 1;
    let every = rng.range(SECOND / 5, 3 * SECOND);
    let mut faults = Vec::new();
    let mut at = rng.range(0, 2 * SECOND);
    while at < phase_us && faults.len() < 200 {
        faults.push((at, one(rng, &mix)));
        at += rng.range(1, 2 * every);
    }
    faults
}

fn one(rng: &mut Rng, mix: &Mix) -> Fault {
    if rng.percent(20) {
        let trigger = match rng.below(5) {
            0 => Trigger::Leader,
            1 => Trigger::Permit,
            2 => Trigger::Stop,
            3 => Trigger::Write,
            _ => Trigger::Commit,
        };
        let delay_us = if rng.percent(50) {
            rng.below(2_000)
        } else {
            rng.below(25_000)
        };
        let fault = Box::new(plain(rng, mix));
        return Fault::After {
            trigger,
            delay_us,
            fault,
        };
    }
    plain(rng, mix)
}

/// Mostly shorter than a second, sometimes many.
fn span(rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0..3 => rng.range(1_000, 100_000),
        3..7 => rng.range(50_000, SECOND),
        7..9 => rng.range(SECOND, 5 * SECOND),
        _ => rng.range(5 * SECOND, 25 * SECOND),
    }
}

fn plain(rng: &mut Rng, mix: &Mix) -> Fault {
    let total: u64 = mix.weights.iter().sum();
    let mut left = rng.below(total);
    let mut kind = 0;
    for (index, &weight) in mix.weights.iter().enumerate() {
        if left < weight {
            kind = index;
            break;
        }
        left -= weight;
    }
    let host = rng.index(mix.hosts);
    let other = (host + 1 + rng.index(mix.hosts.max(2) - 1)) % mix.hosts;
    let for_us = span(rng);
    match kind {
        0 => Fault::OneWayCut {
            from: host,
            to: other,
            for_us,
        },
        1 => Fault::Cut {
            a: host,
            b: other,
            for_us,
        },
        2 => {
            let way = rng.below(3);
            Fault::Isolate {
                host,
                inward: way != 1,
                outward: way != 0,
                for_us,
            }
        }
        3 => Fault::Storm {
            loss_ppm: rng.range(10_000, 400_000),
            late_ppm: rng.range(0, 300_000),
            for_us,
        },
        4 | 5 => Fault::PowerCut { host, for_us },
        6 => Fault::KillDaemon { host, for_us },
        7 => Fault::FreezeDaemon { host, for_us },
        8 => Fault::KillGuard { host, for_us },
        9 => Fault::FreezeGuard { host, for_us },
        10 => Fault::Pause { host, for_us },
        11 => Fault::StopClocks { host, for_us },
        12 => Fault::Slew {
            host,
            ppm: rng.around(80_000),
            for_us: for_us * 4,
        },
        13 if rng.percent(50) => Fault::StuckDisk { host, for_us },
        13 => Fault::SlowDisk {
            host,
            times: rng.range(5, 100),
            for_us,
        },
        14 => Fault::Die {
            group: rng.index(4),
            resource: rng.index(4),
        },
        15 => Fault::Spoil {
            host,
            group: rng.index(4),
            resource: rng.index(4),
            how: spoil(rng),
            for_us: for_us * 2,
        },
        16 if rng.percent(10) => Fault::Blackout { for_us },
        _ => Fault::Operator {
            at: host,
            what: operator(rng, mix.hosts),
        },
    }
}

fn spoil(rng: &mut Rng) -> Spoil {
    match rng.below(6) {
        0 => Spoil::StartFails,
        1 => Spoil::StartHangs,
        2 => Spoil::StopFails,
        3 => Spoil::StopHangs,
        4 => Spoil::Lie,
        _ => Spoil::Unfit,
    }
}

fn operator(rng: &mut Rng, hosts: usize) -> Operator {
    let group = rng.index(4);
    let node = rng.index(hosts);
    let some = rng.percent(50).then_some(node);
    match rng.below(32) {
        0..7 => Operator::Switch { group, to: some },
        7 => Operator::Resource {
            group,
            resource: rng.index(4),
            verb: match rng.below(3) {
                0 => Verb::Stop,
                1 => Verb::Start,
                _ => Verb::Restart,
            },
        },
        8 => Operator::Stop { group },
        9 | 10 => Operator::Start { group, on: some },
        11 => Operator::Enable { group, node: some },
        12 => Operator::Disable { group, node: some },
        13 | 14 => Operator::Clear { group },
        15 | 16 => Operator::Maintenance {
            scope: rng.index(4),
            group,
            node,
            on: rng.percent(50),
        },
        17 => Operator::Disarm,
        18 | 19 => Operator::Arm,
        20 => Operator::Drain { node },
        21 => Operator::Undrain { node },
        22 => Operator::Leave {
            node,
            force: some.is_some(),
        },
        23 => Operator::ClearNode { node },
        24 => Operator::DeclareDown {
            node,
            for_us: rng.range(8 * SECOND, 15 * SECOND),
        },
        25 => Operator::Remove { node },
        26 | 27 => Operator::Timing { draw: rng.bits() },
        28 => Operator::AddNode,
        29 => Operator::ReplaceWitness,
        30 => Operator::RemoveWitness,
        _ => Operator::Policy {
            group,
            draw: rng.bits(),
        },
    }
}
