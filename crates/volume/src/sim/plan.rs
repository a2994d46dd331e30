//! What a seed stands for.

use super::rng::Rng;
use hotpair_core::config::MirrorMode;
use std::time::Duration;

/// A disturbance. Nodes are 0 and 1; times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The power is cut, and comes back after so long.
    PowerCut {
        node: usize,
        back: u64,
    },
    /// Both at once, with different returns.
    BothCut {
        back: [u64; 2],
    },
    /// `kill -9` of the mirror process.
    Kill {
        node: usize,
    },
    /// The process does nothing for so long.
    Pause {
        node: usize,
        length: u64,
    },
    /// The replication connection breaks.
    Break {
        length: u64,
    },
    /// Nothing passes from this node to the other, without a sign.
    Stall {
        from: usize,
        length: u64,
    },
    /// Both directions.
    StallBoth {
        length: u64,
    },
    /// The node is cut off from the leader.
    Cut {
        node: usize,
        length: u64,
    },
    /// Cut off from the leader and from the other node.
    Isolate {
        node: usize,
        length: u64,
    },
    /// Its disk gives errors.
    BadDisk {
        node: usize,
        length: u64,
    },
    /// Its disk has no space left.
    FullDisk {
        node: usize,
        length: u64,
    },
    /// Its disk is slow.
    SlowDisk {
        node: usize,
        length: u64,
    },
    /// The group moves in good order.
    Switch,
    /// A document is kept by one node and never committed.
    Abandoned {
        node: usize,
    },
    /// The leader itself does nothing.
    NoLeader {
        length: u64,
    },
    /// The group is pinned, or not any more.
    Pin {
        pinned: bool,
    },
    /// When the peer is next reported complete, that report is the last that gets through, and the
    /// connection breaks.
    AtComplete {
        length: u64,
    },
    /// The operator keeps the copy of the other side, whatever it lacks, while the holder is down.
    Keep,
    /// The operator gives the group to the other side, whatever its state.
    Force,
    Verify,
    Grow,
    /// The disk is copied.
    Save {
        node: usize,
    },
    /// The power is cut, and the disk comes back as it was copied.
    Restore {
        node: usize,
    },
    /// The application is quiet.
    Quiet {
        length: u64,
    },
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub blocks: u64,
    pub mode: MirrorMode,
    pub log_extents: usize,
    pub beside: bool,
    pub peer_timeout: Duration,
    pub solo_after: Duration,
    pub through_peer: bool,
    /// The gate stays open whatever happens: clocks that do not run.
    pub gate_broken: bool,
    /// What the application does, in hundredths: reads, flushes, discards, forced writes.
    pub reads: u64,
    pub flushes: u64,
    pub discards: u64,
    pub fua: u64,
    pub depth: usize,
    /// Between two requests at most.
    pub gap: u64,
    /// Hot blocks.
    pub spots: u64,
    pub troubles: Vec<(u64, Trouble)>,
    pub length: u64,
    pub pinned: bool,
}

impl Plan {
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x9a17, 0);
        let length = rng.range(300, 2500) * 1000;
        let mode = match rng.below(10) {
            0 | 1 => MirrorMode::Memory,
            2 => MirrorMode::Asynchronous {
                lag: Duration::from_millis(rng.range(5, 200)),
                bytes: rng.range(1, 64) * 4096,
            },
            _ => MirrorMode::Synchronous,
        };
        let count = rng.range(0, 9);
        let pinned = rng.percent(20);
        let mut troubles: Vec<(u64, Trouble)> = (0..count)
            .map(|_| {
                let at = rng.range(20_000, length);
                (at, Trouble::draw(&mut rng, pinned))
            })
            .collect();
        let restored: Vec<(u64, usize)> = troubles
            .iter()
            .filter_map(|(at, trouble)| match trouble {
                Trouble::Restore { node } => Some((*at, *node)),
                _ => None,
            })
            .collect();
        for (at, node) in restored {
            // There is a copy from before.
            troubles.push((rng.range(20_000, at.max(20_001)), Trouble::Save { node }));
        }
        troubles.sort_by_key(|(at, _)| *at);
        Self {
            blocks: rng.range(1, 11) * 1024
                + if rng.percent(30) {
                    rng.range(1, 1000)
                } else {
                    0
                },
            mode,
            log_extents: usize::try_from(rng.range(4, 7)).unwrap_or(4),
            beside: rng.percent(50),
            peer_timeout: Duration::from_millis(rng.range(10, 60)),
            solo_after: Duration::from_millis(rng.range(20, 150)),
            through_peer: rng.percent(70),
            gate_broken: rng.percent(15),
            reads: rng.range(10, 60),
            flushes: rng.range(0, 15),
            discards: rng.range(0, 5),
            fua: rng.range(0, 20),
            depth: usize::try_from(rng.range(1, 12)).unwrap_or(1),
            gap: *[200, 1000, 5000, 30_000]
                .get(usize::try_from(rng.below(4)).unwrap_or(0))
                .unwrap_or(&1000),
            spots: rng.range(2, 40),
            troubles,
            length,
            pinned,
        }
    }
}

impl Trouble {
    fn draw(rng: &mut Rng, pinned: bool) -> Self {
        let node = usize::from(rng.percent(50));
        let long = rng.percent(50);
        let length = if long {
            rng.range(50_000, 800_000)
        } else {
            rng.range(100, 60_000)
        };
        let back = [rng.range(10_000, 600_000), rng.range(10_000, 600_000)];
        match rng.below(if pinned { 33 } else { 27 }) {
            0..=2 => Self::PowerCut {
                node,
                back: back[0],
            },
            3 => Self::BothCut { back },
            4 | 5 => Self::Kill { node },
            6 => Self::Pause { node, length },
            7 | 8 => Self::Break { length },
            9 => Self::Stall { from: node, length },
            10 => Self::StallBoth { length },
            11 => Self::Cut { node, length },
            12 | 13 => Self::Isolate { node, length },
            14 => Self::BadDisk { node, length },
            15 => Self::FullDisk { node, length },
            16 => Self::SlowDisk { node, length },
            17 => Self::Switch,
            18 => Self::Abandoned { node },
            19 => Self::NoLeader { length },
            20 => Self::Verify,
            21 => Self::Grow,
            22 => Self::Quiet { length },
            23 => Self::Save { node },
            24 => Self::Restore { node },
            25 => Self::Keep,
            26 => Self::AtComplete { length },
            27 => Self::Pin { pinned: false },
            28 => Self::Pin { pinned: true },
            29 | 30 => Self::Isolate { node: 0, length },
            _ => Self::Force,
        }
    }
}
