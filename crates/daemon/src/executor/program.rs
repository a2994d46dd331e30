//! Resources that programs start and stop, and the kill of anything that runs in a cgroup.

use super::home::{Home, program};
use super::record::ProgramRun;
use super::service::last_line_of;
use super::slot::{Completion, Lane, Slot};
use super::{KILL_LIMIT, Shared};
use hotpair_core::config::{Program, Resource};
use hotpair_core::group::ResourceAction;
use hotpair_core::ids::Epoch;
use hotpair_host::cgroup::Cgroup;
use hotpair_host::process::{Outcome, Run, run};
use std::time::{Duration, Instant};

/// How much output of a run is kept, in bytes.
pub(super) const OUTPUT_KEPT: usize = 16 << 10;

/// How often a kill looks whether what it overtakes has given up.
const KILL_ROUND: Duration = Duration::from_millis(10);

/// How long what a stop program left is waited for once it is killed.
const LEFT_WAIT: Duration = Duration::from_secs(5);

/// Which of a resource's programs is run.
struct Call<'a> {
    work: &'static str,
    argv: &'a [String],
    cgroup: Cgroup,
    timeout: Duration,
    epoch: Epoch,
}

impl Shared {
    pub(super) fn start_program(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (resource, config): (&Resource, &Program),
    ) -> Result<(), String> {
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        self.clear_leftovers(&home, slot)?;
        self.write_record(&slot.key, &self.record_of(action.epoch, resource))?;
        let cgroup = home.create().map_err(|error| error.to_string())?;
        let call = Call {
            work: "start",
            argv: &config.start,
            cgroup,
            timeout: resource.start_timeout,
            epoch: action.epoch,
        };
        if slot.overtaken(completion.ticket) {
            return Err("killed before it was started".into());
        }
        let result = self.run(slot, config, call);
        if slot.overtaken(completion.ticket) {
            home.kill()?;
            return Err("killed while it was started".into());
        }
        result
    }

    pub(super) fn stop_program(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (resource, config): (&Resource, &Program),
    ) -> Result<(), String> {
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        let cgroup = home.for_stop().map_err(|error| error.to_string())?;
        let call = Call {
            work: "stop",
            argv: &config.stop,
            cgroup: cgroup.clone(),
            timeout: resource.stop_timeout,
            epoch: action.epoch,
        };
        if slot.overtaken(completion.ticket) {
            return Err("killed before it was stopped in good order".into());
        }
        let result = self.run(slot, config, call);
        if slot.overtaken(completion.ticket) {
            return Err("killed while it was stopped in good order".into());
        }
        result?;
        if !home.is_empty() {
            self.out
                .log(&slot.key, "kills what its stop program left running");
        }
        home.clear(LEFT_WAIT)
            .map_err(|left| format!("what its stop program left is {left}"))?;
        self.forget_record(&slot.key);
        Ok(())
    }

    fn run(&self, slot: &Slot, config: &Program, call: Call<'_>) -> Result<(), String> {
        let variables = self.variables(&slot.key, call.epoch);
        let program = program(call.argv, &config.environment, variables, Some(call.cgroup));
        let run = run(&program, call.timeout, OUTPUT_KEPT);
        self.keep_run(slot, ProgramRun::of(call.work, &run));
        let what = format!("{} program", call.work);
        failure(&what, call.argv, call.timeout, &run)
    }

    pub(super) fn keep_run(&self, slot: &Slot, run: ProgramRun) {
        if let Err(error) = self.records.add_run(&slot.key, run) {
            self.out
                .log(&slot.key, format_args!("cannot keep the run: {error}"));
        }
    }

    /// Kills what runs in the resource's cgroup; overtakes a start or stop that is under way.
    pub(super) fn kill_processes(&self, slot: &Slot) -> Result<(), String> {
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        let end = Instant::now() + KILL_LIMIT;
        let mut lane = self.overtake(slot, &home, end)?;
        let left = end.saturating_duration_since(Instant::now());
        home.clear(left)?;
        if let Some(running) = lane.running.take() {
            running.bury(self, end.saturating_duration_since(Instant::now()));
        }
        self.forget_record(&slot.key);
        Ok(())
    }

    /// Enters the lane, killing what holds the one who is in it.
    pub(super) fn overtake<'a>(
        &self,
        slot: &'a Slot,
        home: &Home,
        end: Instant,
    ) -> Result<Lane<'a>, String> {
        loop {
            // It may start something between two rounds.
            let killed = home.kill();
            if let Some(lane) = slot.enter(KILL_ROUND) {
                return Ok(lane);
            }
            if Instant::now() >= end {
                killed?;
                return Err(format!(
                    "a start or stop of it has not given up within {} s: {}",
                    KILL_LIMIT.as_secs(),
                    home.left(KILL_LIMIT)
                ));
            }
        }
    }
}

/// How the run of `argv`, which is `what`, failed, if it did.
pub(super) fn failure(
    what: &str,
    argv: &[String],
    timeout: Duration,
    run: &Run,
) -> Result<(), String> {
    if run.succeeded() {
        return Ok(());
    }
    let said = last_line_of(&run.text()).map_or(String::new(), |line| format!(": {line}"));
    let name = argv.first().map_or("", String::as_str);
    Err(match &run.outcome {
        Outcome::TimedOut => format!(
            "{what} {name} did not end within {} s{said}",
            timeout.as_secs_f64()
        ),
        Outcome::Failed(reason) => format!("{what}: {reason}"),
        outcome => format!("{what} {name} ended with {outcome}{said}"),
    })
}
