//! What may happen next.

use std::fmt;

/// One step. Hosts by index: the nodes, then the witness.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Everything goes its way for one round.
    Go,
    /// Power cut; `back`: it is powered on again at the next tick.
    Crash { host: usize, back: bool },
    /// A host that is off is powered on at the next tick; no fault.
    PowerOn { host: usize },
    /// `kill -9` of the daemon; it is started again at the next tick.
    KillDaemon { host: usize },
    /// `kill -9` of the guard; it is started again at the next tick.
    KillGuard { host: usize },
    /// Guard and daemon stand still for a lease and a tick; the kernel goes on.
    Freeze { host: usize },
    /// Nothing gets through in this direction for a lease and two ticks.
    Cut { from: usize, to: usize },
    /// Nothing gets in or out for a lease and two ticks.
    Isolate { host: usize },
    /// What the host does with the quorum disk ends `ticks` later. `early`: it is done at once, and only not
    /// told; else it is done at the end.
    Stall {
        host: usize,
        ticks: u64,
        early: bool,
    },
    /// What the host does with the quorum disk fails; a write may have been made.
    FailIo { host: usize, done: bool },
    /// What is on its way here is lost.
    Lose { wire: Wire },
    /// What is on its way here arrives after the next tick.
    Hold { wire: Wire },
    /// What is on its way here arrives, and once more after the next tick.
    Repeat { wire: Wire },
    /// The operator asks the cluster, at `host`.
    Ask { host: usize, ask: Ask },
}

/// One direction between two hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wire {
    pub from: usize,
    pub to: usize,
    pub channel: Channel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Between guards.
    Datagrams,
    /// Between daemons.
    Messages,
}

/// A request of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// To the node that does not hold the group.
    Switch,
    Disarm,
    Arm,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from + 1, self.to + 1);
        write!(f, "{:?} m{from} -> m{to}", self.channel)
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Go => write!(f, "go"),
            Self::Crash { host, back: true } => write!(f, "reboot m{}", host + 1),
            Self::Crash { host, back: false } => write!(f, "power cut of m{}", host + 1),
            Self::PowerOn { host } => write!(f, "power on m{}", host + 1),
            Self::KillDaemon { host } => write!(f, "kill daemon of m{}", host + 1),
            Self::KillGuard { host } => write!(f, "kill guard of m{}", host + 1),
            Self::Freeze { host } => write!(f, "freeze m{}", host + 1),
            Self::Cut { from, to } => write!(f, "cut m{} -> m{}", from + 1, to + 1),
            Self::Isolate { host } => write!(f, "isolate m{}", host + 1),
            Self::Stall { host, ticks, early } => {
                let how = if *early { "told" } else { "done" };
                write!(
                    f,
                    "what m{} does on the disk is {how} {ticks} ticks late",
                    host + 1
                )
            }
            Self::FailIo { host, done } => {
                let how = if *done { "is done and fails" } else { "fails" };
                write!(f, "what m{} does on the disk {how}", host + 1)
            }
            Self::Lose { wire } => write!(f, "lose {wire:?}"),
            Self::Hold { wire } => write!(f, "hold back {wire:?}"),
            Self::Repeat { wire } => write!(f, "repeat {wire:?}"),
            Self::Ask { host, ask } => write!(f, "ask m{} to {ask:?}", host + 1),
        }
    }
}
