//! The faults a user can ask for, by name and argument.

use crate::error::{LabError, Result};
use crate::plan::Network;
use serde::{Deserialize, Serialize};

/// Direction of a one-way cut, seen from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The host receives nothing and can send.
    In,
    /// The host can send nothing and receives.
    Out,
}

/// Which processes of a host a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// `hotpair daemon`, on the witness host `hotpair witness`.
    Daemon,
    /// `hotpair guard`.
    Guard,
    /// What runs in the host's cgroups below `groups/`, or is the sample application.
    App,
}

/// One thing that can be done to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "with")]
pub enum Fault {
    /// Links and all processes go in one instant; `/run` is lost, the disk stays.
    PowerCut,
    /// Power cut and boot at once.
    Reboot,
    /// Boot of a host without power.
    Boot,
    /// All links lose their carrier.
    CutLinks,
    /// One link loses its carrier.
    CutLink(Network),
    /// Frames in one direction are dropped on all links.
    OneWayCut(Direction),
    /// Frames between this host and the other nodes are dropped; witness and client stay reachable.
    CutPeers,
    /// So many percent of all frames are dropped in each direction; 0 to 100.
    Loss(u8),
    /// The whole host stands still; its kernel goes on answering.
    Pause,
    /// The host goes on.
    Resume,
    /// SIGKILL to processes.
    Kill(Target),
    /// SIGSTOP to processes.
    Freeze(Target),
    /// An interface of the host is set down from inside: 0 is `eth0`.
    NicDown(u8),
    /// The kernel's rtnl lock is kept busy for so many milliseconds, on the whole machine.
    RtnlHold(u32),
}

/// Names and arguments, in the order shown to users.
pub const NAMES: [(&str, &str); 20] = [
    ("power-cut", ""),
    ("reboot", ""),
    ("boot", ""),
    ("cut-links", ""),
    ("cut-link", "lan|hb"),
    ("one-way-cut", "[in|out]"),
    ("cut-peers", ""),
    ("loss", "PERCENT"),
    ("pause", ""),
    ("resume", ""),
    ("kill-daemon", ""),
    ("freeze-daemon", ""),
    ("kill-guard", ""),
    ("freeze-guard", ""),
    ("kill-app", ""),
    ("freeze-app", ""),
    ("nic-down", "NIC"),
    ("rtnl-hold", "SECONDS"),
    ("kill-witness", ""),
    ("freeze-witness", ""),
];

impl Fault {
    /// Reads a fault as typed: `("loss", Some("30"))`.
    pub fn parse(name: &str, argument: Option<&str>) -> Result<Self> {
        let fault = match name {
            "power-cut" => Self::PowerCut,
            "reboot" => Self::Reboot,
            "boot" => Self::Boot,
            "cut-links" => Self::CutLinks,
            "cut-link" => return network(argument).map(Self::CutLink),
            "one-way-cut" => return direction(argument).map(Self::OneWayCut),
            "cut-peers" => Self::CutPeers,
            "loss" => return percent(argument).map(Self::Loss),
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "kill-daemon" | "kill-witness" => Self::Kill(Target::Daemon),
            "freeze-daemon" | "freeze-witness" => Self::Freeze(Target::Daemon),
            "kill-guard" => Self::Kill(Target::Guard),
            "freeze-guard" => Self::Freeze(Target::Guard),
            "kill-app" => Self::Kill(Target::App),
            "freeze-app" => Self::Freeze(Target::App),
            "nic-down" => return nic(argument).map(Self::NicDown),
            "rtnl-hold" => return seconds(argument).map(Self::RtnlHold),
            _ => return Err(unknown(name)),
        };
        match (argument, NAMES.iter().find(|(known, _)| *known == name)) {
            (Some(argument), Some((fault, _))) => Err(bad(
                fault,
                format!("takes no argument, and got {argument:?}"),
            )),
            _ => Ok(fault),
        }
    }
}

fn bad(fault: &'static str, problem: String) -> LabError {
    LabError::BadFaultArgument { fault, problem }
}

fn network(argument: Option<&str>) -> Result<Network> {
    let found = Network::ALL
        .into_iter()
        .find(|n| Some(n.name()) == argument);
    found.ok_or_else(|| {
        bad(
            "cut-link",
            format!("say which link, lan or hb{}", got(argument)),
        )
    })
}

fn direction(argument: Option<&str>) -> Result<Direction> {
    match argument {
        None | Some("in") => Ok(Direction::In),
        Some("out") => Ok(Direction::Out),
        _ => Err(bad(
            "one-way-cut",
            format!(
                "say in (cannot receive) or out (cannot send){}",
                got(argument)
            ),
        )),
    }
}

fn percent(argument: Option<&str>) -> Result<u8> {
    let number = argument.and_then(|a| a.trim_end_matches('%').parse::<u8>().ok());
    number.filter(|n| *n <= 100).ok_or_else(|| {
        bad(
            "loss",
            format!("say how many percent, 0 to 100{}", got(argument)),
        )
    })
}

fn nic(argument: Option<&str>) -> Result<u8> {
    let number = argument
        .and_then(|a| a.strip_prefix("eth"))
        .and_then(|n| n.parse::<u8>().ok());
    number.filter(|n| *n < 2).ok_or_else(|| {
        bad(
            "nic-down",
            format!("say which interface, eth0 or eth1{}", got(argument)),
        )
    })
}

fn seconds(argument: Option<&str>) -> Result<u32> {
    let number = argument
        .and_then(|a| a.parse::<f64>().ok())
        .filter(|s| (0.001..=60.0).contains(s));
    let number = number.ok_or_else(|| {
        bad(
            "rtnl-hold",
            format!("say for how many seconds, 0.001 to 60{}", got(argument)),
        )
    })?;
    let ms = std::time::Duration::from_secs_f64(number).as_millis();
    Ok(u32::try_from(ms).unwrap_or(60_000))
}

fn got(argument: Option<&str>) -> String {
    argument.map_or_else(String::new, |a| format!(", not {a:?}"))
}

fn unknown(name: &str) -> LabError {
    let nearest = NAMES
        .iter()
        .map(|(known, _)| (distance(name, known), *known))
        .min();
    let suggestion = match nearest {
        Some((steps, known)) if steps <= 3 || known.contains(name) => {
            format!(", did you mean {known:?}")
        }
        _ => String::new(),
    };
    let known = NAMES
        .map(|(name, argument)| [name, argument].join(" ").trim_end().to_owned())
        .join(", ");
    LabError::UnknownFault {
        fault: name.to_owned(),
        suggestion,
        known,
    }
}

/// Levenshtein distance, cut off at inputs of 40 bytes.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (
        &a.as_bytes()[..a.len().min(40)],
        &b.as_bytes()[..b.len().min(40)],
    );
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_fault_can_be_asked_for() {
        for (name, argument) in NAMES {
            let argument = match argument {
                "" | "[in|out]" => None,
                "lan|hb" => Some("lan"),
                "PERCENT" => Some("30"),
                "NIC" => Some("eth1"),
                _ => Some("0.5"),
            };
            assert!(Fault::parse(name, argument).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_mistyped_fault_gets_a_suggestion() {
        let text = Fault::parse("powercut", None).unwrap_err().to_string();
        assert!(text.contains("did you mean \"power-cut\""), "{text}");
    }

    #[test]
    fn refuses_arguments_out_of_range_and_where_none_belongs() {
        for (name, argument) in [
            ("loss", "101"),
            ("nic-down", "eth7"),
            ("rtnl-hold", "NaN"),
            ("pause", "3"),
            ("cut-link", "wan"),
        ] {
            assert!(
                Fault::parse(name, Some(argument)).is_err(),
                "{name} {argument}"
            );
        }
    }
}
