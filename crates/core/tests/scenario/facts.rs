//! Lines that say what is: presence, reports, time; and nodes that obey.

use super::mirrors::obey_mirrors;
use super::{World, span};
use hotpair_core::document::{Goal, Placement};
use hotpair_core::ids::{Epoch, GroupId, HostBoot, Incarnation, MemberId, ResourceId, Version};
use hotpair_core::plan::{Change, MemberView, Presence};
use hotpair_core::reason::Reason;
use hotpair_core::report::{GroupReport, GroupState, Report};
use std::collections::BTreeMap;
use std::time::Duration;

impl World {
    pub fn fact(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["deciding", time] => self.deciding_for = span(time)?,
            ["obey"] => {
                self.obey();
            }
            ["node", name, state @ ..] => {
                let member = self.member(name)?;
                self.presence(member, state)?;
            }
            ["place", group, name] => {
                let to = self.member(name)?;
                let group = self.group(group);
                let reason = Reason::FirstStart;
                let given = Change::SetHolder {
                    group,
                    to,
                    reason,
                    abrupt: false,
                    unclean: std::collections::BTreeSet::new(),
                };
                given.apply(&mut self.document);
                self.document.version.index += 1;
                self.obey();
            }
            ["report", name, group, state @ ..] => {
                let member = self.member(name)?;
                let group = self.group(group);
                self.report(member, &group, state)?;
            }
            ["unfit", name, group, problem @ ..] => {
                let report = self.group_report(name, group)?;
                report.unfit = vec![problem.join(" ")];
            }
            ["fit", name, group] => self.group_report(name, group)?.unfit.clear(),
            ["fit-for", name, group, time] => {
                let member = self.member(name)?;
                let group = self.group(group);
                let view = self.members.get_mut(&member).ok_or("no such member")?;
                view.fit_for.insert(group, span(time)?);
            }
            ["failures", name, count] => {
                let member = self.member(name)?;
                let view = self.members.get_mut(&member).ok_or("no such member")?;
                view.failures = count.parse().map_err(|_| "no number")?;
            }
            ["unheard-report", name] => {
                let member = self.member(name)?;
                let view = self.members.get_mut(&member).ok_or("no such member")?;
                view.report = None;
            }
            _ => return Err("unknown".into()),
        }
        Ok(())
    }

    /// Online in that boot, nothing running.
    pub fn online(&mut self, member: MemberId, boot: HostBoot) {
        let groups = self.document.groups.iter();
        let stopped = |epoch| GroupReport::stopped(epoch);
        let report = Report {
            from: member,
            boot,
            incarnation: Incarnation(1),
            number: 1,
            version: self.document.version,
            groups: groups
                .map(|(id, p)| (id.clone(), stopped(p.epoch)))
                .collect(),
        };
        let node = self.document.config.nodes.contains_key(&member);
        let view = MemberView {
            presence: Presence::Online { boot },
            report: node.then_some(report),
            online_for: Duration::from_secs(60),
            fit_for: BTreeMap::new(),
            failures: 0,
        };
        self.members.insert(member, view);
    }

    fn presence(&mut self, member: MemberId, state: &[&str]) -> Result<(), String> {
        let boot = match self.members.get(&member).map(|view| view.presence) {
            Some(
                Presence::Online { boot }
                | Presence::Silent { boot, .. }
                | Presence::Down { boot, .. },
            ) => boot,
            _ => HostBoot(u64::from(member.0)),
        };
        let presence = match state {
            ["silent", time] => Presence::Silent {
                boot,
                silent: span(time)?,
            },
            ["down", time] => Presence::Down {
                boot,
                silent: span(time)?,
            },
            ["unheard"] => Presence::NeverHeard,
            ["online"] => {
                self.online(member, boot);
                return Ok(());
            }
            ["reboots"] => {
                self.online(member, HostBoot(boot.0 + 100));
                return Ok(());
            }
            // The daemon was started again: another run of it, in the same boot of the host.
            ["restarts"] => {
                self.online(member, boot);
                if let Some(report) = self
                    .members
                    .get_mut(&member)
                    .and_then(|v| v.report.as_mut())
                {
                    report.incarnation = Incarnation(2);
                }
                return Ok(());
            }
            _ => return Err("unknown presence".into()),
        };
        let view = self.members.get_mut(&member).ok_or("no such member")?;
        view.presence = presence;
        if !matches!(presence, Presence::Silent { .. }) {
            view.report = None;
        }
        Ok(())
    }

    fn group_report(&mut self, name: &str, group: &str) -> Result<&mut GroupReport, String> {
        let member = self.member(name)?;
        let group = self.group(group);
        let view = self.members.get_mut(&member).ok_or("no such member")?;
        let report = view.report.as_mut().ok_or("it has not reported")?;
        report
            .groups
            .get_mut(&group)
            .ok_or_else(|| "no such group".into())
    }

    /// At the present epoch and document, unless `epoch N` or `stale` stands first.
    fn report(&mut self, member: MemberId, group: &GroupId, words: &[&str]) -> Result<(), String> {
        let mut epoch = self
            .document
            .groups
            .get(group)
            .map_or(Epoch(0), |p| p.epoch);
        let mut version = self.document.version;
        let mut words = words;
        loop {
            words = match words {
                ["epoch", number, rest @ ..] => {
                    epoch = Epoch(number.parse().map_err(|_| "no epoch")?);
                    rest
                }
                ["stale", rest @ ..] => {
                    version = Version::ZERO;
                    rest
                }
                _ => break,
            };
        }
        let view = self.members.get_mut(&member).ok_or("no such member")?;
        let report = view.report.as_mut().ok_or("it has not reported")?;
        report.version = version;
        let state = report.groups.get_mut(group).ok_or("no such group")?;
        state.epoch = epoch;
        match words {
            ["leased"] => state.leased = true,
            ["unleased"] => state.leased = false,
            _ => state.state = parse_state(words)?,
        }
        Ok(())
    }

    /// Every node that is online does what the document asks. True if that changed anything.
    pub fn obey(&mut self) -> bool {
        let mut changed = false;
        for (&node, view) in &mut self.members {
            let Some(report) = view.report.as_mut() else {
                continue;
            };
            if !matches!(view.presence, Presence::Online { .. }) {
                continue;
            }
            let before = report.clone();
            report.version = self.document.version;
            for (group, placement) in &self.document.groups {
                let state = report.groups.entry(group.clone());
                let state = state.or_insert_with(|| GroupReport::stopped(placement.epoch));
                obey_for(node, placement, state);
                obey_mirrors(
                    node,
                    group,
                    placement,
                    state,
                    self.document.version,
                    &mut self.disks,
                );
            }
            changed |= before != *report;
        }
        changed
    }
}

fn obey_for(node: MemberId, placement: &Placement, state: &mut GroupReport) {
    let mine = placement.holder == Some(node);
    let runs = mine && placement.goal == Goal::Run && placement.moving.is_none();
    let new = state.epoch != placement.epoch;
    match &state.state {
        GroupState::StopFailed { .. } | GroupState::Unmanaged { .. } => {}
        GroupState::Failed { .. } | GroupState::Degraded { .. } if runs && !new => {}
        _ if runs => {
            state.state = GroupState::Running;
            state.leased = !placement.pinned();
        }
        down if down.is_down() => {}
        _ => {
            state.state = GroupState::Stopped;
            state.leased = false;
        }
    }
    if mine {
        state.epoch = placement.epoch;
    }
}

fn parse_state(words: &[&str]) -> Result<GroupState, String> {
    Ok(match words {
        ["running"] => GroupState::Running,
        ["stopped"] => GroupState::Stopped,
        ["starting"] => GroupState::Starting,
        ["stopping"] => GroupState::Stopping,
        ["unmanaged", running] => GroupState::Unmanaged {
            running: *running == "running",
        },
        ["degraded", detail @ ..] => GroupState::Degraded {
            detail: detail.join(" "),
        },
        ["stop-failed", resource, detail @ ..] => GroupState::StopFailed {
            resource: ResourceId::from(*resource),
            detail: detail.join(" "),
        },
        ["start-failed", resource, detail @ ..] => failed(resource, detail, true),
        ["failed", resource, detail @ ..] => failed(resource, detail, false),
        _ => return Err("unknown state".into()),
    })
}

/// A resource named `-` is none.
fn failed(resource: &str, detail: &[&str], while_starting: bool) -> GroupState {
    GroupState::Failed {
        resource: (resource != "-").then(|| ResourceId::from(resource)),
        detail: detail.join(" "),
        while_starting,
    }
}
