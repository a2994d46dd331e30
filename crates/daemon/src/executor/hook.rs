//! Programs of the operator's beside the start and stop of a resource.
//!
//! They run in a cgroup of their own below the resource's, so that their time-out does not kill the
//! resource, and the guard ends them with the group. What a hook leaves running ends with it.

use super::home::{Home, program};
use super::program::{OUTPUT_KEPT, failure};
use super::record::ProgramRun;
use super::slot::{Completion, Slot};
use super::{KILL_LIMIT, Shared};
use hotpair_core::config::{Hook, HookMoment, Resource};
use hotpair_core::group::ResourceAction;
use hotpair_host::process::run;

impl Shared {
    /// Starts a resource with what the operator wants done before and after.
    pub(super) fn start_with_hooks(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (probe, reason): (bool, &str),
    ) -> Result<(), String> {
        let resource = self.resource(&slot.key).ok_or_else(|| {
            format!(
                "{}.{} is not configured on this node",
                slot.key.0, slot.key.1
            )
        })?;
        let hooks = |when| self.hooks(slot, completion, action, (&resource, when, reason));
        hooks(HookMoment::BeforeStart)?;
        self.start(slot, completion, action, (&resource, probe))?;
        self.tell_failure(slot, hooks(HookMoment::AfterStart));
        Ok(())
    }

    /// Stops a resource with what the operator wants done before and after. A hook that fails is told, and
    /// holds up nothing.
    pub(super) fn stop_with_hooks(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        reason: &str,
    ) -> Result<(), String> {
        let Some(resource) = self.resource_to_stop(&slot.key) else {
            return self.kill(slot);
        };
        let hooks = |when| {
            let ended = self.hooks(slot, completion, action, (&resource, when, reason));
            self.tell_failure(slot, ended);
        };
        hooks(HookMoment::BeforeStop);
        let stopped = self.stop(slot, completion, action, &resource);
        hooks(match stopped {
            Ok(()) => HookMoment::AfterStop,
            Err(_) => HookMoment::StopFailed,
        });
        stopped
    }

    fn tell_failure(&self, slot: &Slot, ended: Result<(), String>) {
        if let Err(error) = ended {
            self.out.log(&slot.key, error);
        }
    }

    /// Runs the hooks of one moment in their order, until one fails.
    fn hooks(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (resource, when, reason): (&Resource, HookMoment, &str),
    ) -> Result<(), String> {
        for hook in resource.hooks.iter().filter(|hook| hook.when == when) {
            let killed = || format!("killed before or during its {} hook", when.name());
            let in_hook = slot.enter_hook(completion.ticket).ok_or_else(killed)?;
            let ended = self.hook(slot, action, hook, reason);
            drop(in_hook);
            if slot.overtaken(completion.ticket) {
                return Err(killed());
            }
            ended?;
        }
        Ok(())
    }

    fn hook(
        &self,
        slot: &Slot,
        action: &ResourceAction,
        hook: &Hook,
        reason: &str,
    ) -> Result<(), String> {
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        // Of an earlier run of the daemon.
        home.clear_hook(KILL_LIMIT)
            .map_err(|left| format!("what an earlier hook left is {left}"))?;
        let cgroup = home.for_hook().map_err(|error| error.to_string())?;
        let mut variables = self.variables(&slot.key, action.epoch);
        variables.push(("HOTPAIR_HOOK".into(), hook.when.name().into()));
        variables.push(("HOTPAIR_REASON".into(), reason.into()));
        let ready = program(&hook.command, &hook.environment, variables, Some(cgroup));
        let run = run(&ready, hook.timeout, OUTPUT_KEPT);
        let work = format!("{} hook", hook.when.name());
        self.keep_run(slot, ProgramRun::of(&work, &run));
        if let Err(left) = home.clear_hook(KILL_LIMIT) {
            self.out
                .log(&slot.key, format_args!("what its {work} left is {left}"));
        }
        failure(&work, &hook.command, hook.timeout, &run)
    }
}
