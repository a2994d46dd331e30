//! Requests about one resource of a group: stop it, start it, start it again.
//!
//! What requires a resource goes down with it, and comes back with it. Only what the operator named
//! is remembered as stopped.

use super::{Accepted, Desk, order};
use crate::config::Group;
use crate::document::Goal;
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::plan::Change;
use std::collections::BTreeSet;

impl Desk<'_> {
    pub(super) fn stop_resource(
        &self,
        group: &GroupId,
        resource: &ResourceId,
    ) -> Result<Accepted, String> {
        self.may_touch(group, resource)?;
        let placement = self.draft.placement(group);
        if placement.stopped_resources.contains(resource) {
            return Ok(Accepted::already(format!(
                "{resource} of {group} is already stopped by the operator"
            )));
        }
        let down = self.down_with(group, resource);
        self.not_maintained(group, &down)?;
        let change = Change::StopResource {
            group: group.clone(),
            resource: resource.clone(),
            stopped: true,
        };
        let others = others(&down, resource);
        let text = match self.runs_on(group) {
            Some(node) => {
                let first = if others.is_empty() {
                    String::new()
                } else {
                    format!(
                        "; first {}, which cannot run without it",
                        order::list(&others)
                    )
                };
                format!(
                    "{resource} of {group} will be stopped on {}{first}; it stays stopped, over \
                     failover and reboot, until it is started",
                    self.name(node)
                )
            }
            None => {
                let too = if others.is_empty() {
                    String::new()
                } else {
                    format!(
                        ", nor {}, which cannot run without it",
                        order::list(&others)
                    )
                };
                format!("{group} does not run; when it does, {resource} will not be started{too}")
            }
        };
        Ok(Accepted::new(vec![change], text))
    }

    pub(super) fn start_resource(
        &self,
        group: &GroupId,
        resource: &ResourceId,
    ) -> Result<Accepted, String> {
        self.may_touch(group, resource)?;
        let placement = self.draft.placement(group);
        let config = &self.document.config.groups[group];
        let mut needed = requirements(config, resource);
        needed.insert(resource.clone());
        let released: Vec<&ResourceId> = placement
            .stopped_resources
            .iter()
            .filter(|id| needed.contains(id))
            .collect();
        if released.is_empty() {
            return Ok(Accepted::already(match self.runs_on(group) {
                Some(_) => format!("{resource} of {group} is not stopped by the operator"),
                None => format!(
                    "{group} does not run; start it with `hotpair group start {group}`, and \
                     {resource} with it"
                ),
            }));
        }
        let changes = released
            .iter()
            .map(|&id| Change::StopResource {
                group: group.clone(),
                resource: id.clone(),
                stopped: false,
            })
            .collect();
        let left: BTreeSet<ResourceId> = placement
            .stopped_resources
            .iter()
            .filter(|id| !needed.contains(id))
            .cloned()
            .collect();
        let before = with_dependents(config, &placement.stopped_resources);
        let after = with_dependents(config, &left);
        let mut starts = order::start_order(config);
        starts.retain(|id| before.contains(id) && !after.contains(id));
        self.not_maintained(group, &starts)?;
        let starts = order::list(&starts);
        let text = match self.runs_on(group) {
            Some(node) => format!("on {}: start {starts}", self.name(node)),
            None => {
                format!("{group} does not run; when it does, these will be started again: {starts}")
            }
        };
        Ok(Accepted::new(changes, text))
    }

    pub(super) fn restart_resource(
        &self,
        group: &GroupId,
        resource: &ResourceId,
    ) -> Result<Accepted, String> {
        self.may_touch(group, resource)?;
        let Some(node) = self.runs_on(group) else {
            return Err(format!(
                "{group} does not run; start it with `hotpair group start {group}`"
            ));
        };
        let placement = self.draft.placement(group);
        let config = &self.document.config.groups[group];
        let stopped = with_dependents(config, &placement.stopped_resources);
        if stopped.contains(resource) {
            return Err(format!(
                "{resource} of {group} is stopped by the operator; start it with `hotpair group \
                 start {group} --resource {resource}`"
            ));
        }
        let mut down = self.down_with(group, resource);
        self.not_maintained(group, &down)?;
        down.retain(|id| !stopped.contains(id));
        let mut up = down.clone();
        up.reverse();
        Ok(Accepted::new(
            vec![Change::RestartResource {
                group: group.clone(),
                resource: resource.clone(),
            }],
            format!(
                "on {}: stop {}; then start {}",
                self.name(node),
                order::list(&down),
                order::list(&up)
            ),
        ))
    }

    fn may_touch(&self, group: &GroupId, resource: &ResourceId) -> Result<(), String> {
        self.known_resource(group, resource)?;
        self.not_in_maintenance(group)?;
        let placement = self.draft.placement(group);
        match (placement.holder, &placement.moving) {
            (Some(holder), Some(_)) => Err(format!(
                "{group} is being stopped on {}; wait until that is done",
                self.name(holder)
            )),
            _ => Ok(()),
        }
    }

    fn not_maintained(&self, group: &GroupId, touched: &[ResourceId]) -> Result<(), String> {
        let placement = self.draft.placement(group);
        let maintained = touched
            .iter()
            .find(|&id| placement.maintenance_resources.contains(id));
        maintained.map_or(Ok(()), |id| {
            Err(format!(
                "{id} of {group} is in maintenance; end it with `hotpair maintenance off --group \
                 {group} --resource {id}` first"
            ))
        })
    }

    /// The node that runs the group, or will in a moment.
    fn runs_on(&self, group: &GroupId) -> Option<MemberId> {
        let placement = self.draft.placement(group);
        placement.holder.filter(|_| placement.goal == Goal::Run)
    }

    /// What is stopped with `resource`, in the order of stopping; `resource` is the last.
    fn down_with(&self, group: &GroupId, resource: &ResourceId) -> Vec<ResourceId> {
        let config = &self.document.config.groups[group];
        let down = with_dependents(config, &BTreeSet::from([resource.clone()]));
        let mut order = order::stop_order(config);
        order.retain(|id| down.contains(id));
        order
    }
}

fn others(down: &[ResourceId], resource: &ResourceId) -> Vec<ResourceId> {
    let others = down.iter().filter(|&id| id != resource);
    others.cloned().collect()
}

/// Everything `resource` requires, directly or through others.
fn requirements(config: &Group, resource: &ResourceId) -> BTreeSet<ResourceId> {
    let mut found = BTreeSet::new();
    let mut open = vec![resource];
    while let Some(id) = open.pop() {
        for required in config
            .resources
            .get(id)
            .into_iter()
            .flat_map(|r| &r.requires)
        {
            if found.insert(required.clone()) {
                open.push(required);
            }
        }
    }
    found
}

/// These, and everything of the group that requires one of them, directly or through others.
pub(crate) fn with_dependents(config: &Group, of: &BTreeSet<ResourceId>) -> BTreeSet<ResourceId> {
    let mut found = of.clone();
    for _ in 0..config.resources.len() {
        let before = found.len();
        for (id, resource) in &config.resources {
            if resource
                .requires
                .iter()
                .any(|required| found.contains(required))
            {
                found.insert(id.clone());
            }
        }
        if found.len() == before {
            break;
        }
    }
    found
}
