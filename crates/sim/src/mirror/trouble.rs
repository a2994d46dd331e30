//! What goes wrong with a mirror.

use crate::cluster::member;
use crate::fault::Fault;
use crate::rng::Rng;
use crate::world::World;
use hotpair_core::request::Request;

/// Copies are 0 and 1; spans are microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorFault {
    /// The replication connection breaks, and cannot be made again.
    Break { for_us: u64 },
    /// Nothing passes from one side to the other, without a sign.
    Stall { from: usize, for_us: u64 },
    /// `kill -9` of the mirror process.
    Kill { side: usize, back_us: u64 },
    /// The disk gives errors.
    BadDisk { side: usize, for_us: u64 },
    /// The disk has no space left.
    FullDisk { side: usize, for_us: u64 },
    /// Both nodes lose their power at once, and come back in any order.
    BothCut { back_us: [u64; 2] },
    /// The operator has the copy made anew.
    Renew { side: usize },
    /// The operator keeps this copy.
    Keep { side: usize },
    /// The application does nothing.
    Quiet { for_us: u64 },
}

/// Draws what goes wrong during `phase_us`.
pub fn draw(rng: &mut Rng, phase_us: u64) -> Vec<(u64, Fault)> {
    let count = rng.below(12);
    let mut faults: Vec<(u64, Fault)> = (0..count)
        .map(|_| (rng.range(1_000_000, phase_us), one(rng)))
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn one(rng: &mut Rng) -> Fault {
    let side = rng.index(2);
    let for_us = match rng.below(10) {
        0..3 => rng.range(1_000, 100_000),
        3..7 => rng.range(50_000, 1_000_000),
        _ => rng.range(1_000_000, 8_000_000),
    };
    Fault::Mirror(match rng.below(16) {
        0..3 => MirrorFault::Break { for_us },
        3..6 => MirrorFault::Stall { from: side, for_us },
        6..9 => MirrorFault::Kill {
            side,
            back_us: rng.range(1_000, 600_000),
        },
        9..11 => MirrorFault::BadDisk { side, for_us },
        11 => MirrorFault::FullDisk { side, for_us },
        12 => MirrorFault::BothCut {
            back_us: [for_us, for_us + rng.below(3_000_000)],
        },
        13 => MirrorFault::Renew { side },
        14 => MirrorFault::Keep { side },
        _ => MirrorFault::Quiet { for_us },
    })
}

impl World {
    pub(crate) fn inflict_on_mirror(&mut self, fault: &MirrorFault) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let (group, resource) = mirror.part();
        match *fault {
            MirrorFault::Break { for_us } => {
                mirror.wire.broken_until = now + for_us;
                let conn = mirror.wire.conn;
                self.close_wire(0, conn);
            }
            MirrorFault::Stall { from, for_us } => {
                mirror.wire.stalled_until[from] = now + for_us;
            }
            MirrorFault::Kill { side, back_us } => self.kill_mirror(side, back_us),
            MirrorFault::BadDisk { side, for_us } => {
                mirror.sides[side].broken_until = now + for_us;
                mirror.sides[side].node.disk.broken = true;
            }
            MirrorFault::FullDisk { side, for_us } => {
                mirror.sides[side].full_until = now + for_us;
                mirror.sides[side].node.disk.full = true;
            }
            MirrorFault::BothCut { back_us } => {
                let hosts = [0, 1].map(|side| mirror.sides[side].host);
                for (host, back) in hosts.into_iter().zip(back_us) {
                    self.power_cut(host, back);
                }
            }
            MirrorFault::Renew { side } | MirrorFault::Keep { side } => {
                let node = member(mirror.sides[side].host);
                let request = if matches!(fault, MirrorFault::Keep { .. }) {
                    Request::MirrorKeep {
                        group,
                        resource,
                        node,
                    }
                } else {
                    Request::MirrorRenew {
                        group,
                        resource,
                        node,
                        overwrite: true,
                    }
                };
                let hosts = [0, 1].map(|side| mirror.sides[side].host);
                let alive = hosts
                    .into_iter()
                    .find(|&host| self.hosts[host].node.it.is_some());
                if let Some(host) = alive {
                    self.ask(host, request);
                }
            }
            MirrorFault::Quiet { for_us } => mirror.quiet_until = now + for_us,
        }
    }

    /// Everything that is wrong with the mirror's disks and wire ends.
    pub(crate) fn heal_mirror(&mut self) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        mirror.quiet_until = 0;
        mirror.wire.broken_until = 0;
        mirror.wire.stalled_until = [0; 2];
        for side in &mut mirror.sides {
            side.broken_until = 0;
            side.full_until = 0;
            side.start_at = 0;
        }
    }
}
