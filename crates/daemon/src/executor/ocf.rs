//! Resources that OCF resource agents start, stop and monitor.
//!
//! What an agent starts is born in the resource's cgroup and is killed there. What it does beside, such
//! as an address or a mount, only the agent itself takes back: a kill ends the processes first and then
//! calls its `stop`.

use super::home::Home;
use super::record::ProgramRun;
use super::slot::{Completion, Key, Slot, lock};
use super::{KILL_LIMIT, Shared};
use hotpair_core::config::{Ocf, Resource};
use hotpair_core::group::ResourceAction;
use hotpair_core::ids::Epoch;
use hotpair_host::cgroup::Cgroup;
use hotpair_host::ocf::{self, Action, Agent, Call, Meaning};
use hotpair_host::process::{Outcome, run};
use std::time::{Duration, Instant};

/// How much output of a run is kept, in bytes.
const OUTPUT_KEPT: usize = 16 << 10;

/// How long what an agent's stop left is waited for once it is killed.
const LEFT_WAIT: Duration = Duration::from_secs(5);

/// Names the action in runs and messages.
fn word(action: Action) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Monitor { .. } => "monitor",
    }
}

fn agent(config: &Ocf) -> Agent {
    Agent {
        provider: config.provider.clone(),
        name: config.agent.clone(),
    }
}

/// One call of an agent.
struct Order {
    action: Action,
    epoch: Option<Epoch>,
    cgroup: Cgroup,
    timeout: Duration,
}

/// How a call has ended.
struct Ended {
    meaning: Meaning,
    /// For people; of a success too.
    told: String,
}

impl Shared {
    pub(super) fn start_ocf(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (resource, config): (&Resource, &Ocf),
    ) -> Result<(), String> {
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        self.agent_file(config)?;
        self.write_record(&slot.key, &self.record_of(action.epoch, resource))?;
        if let Err(error) = ocf::make_state_directory() {
            self.out.log(
                &slot.key,
                format_args!("cannot make the agents' directory: {error}"),
            );
        }
        let cgroup = home.create().map_err(|error| error.to_string())?;
        if slot.overtaken(completion.ticket) {
            return Err("killed before it was started".into());
        }
        let order = Order {
            action: Action::Start,
            epoch: Some(action.epoch),
            cgroup,
            timeout: resource.start_timeout,
        };
        let ended = self.call(&slot.key, config, order);
        if slot.overtaken(completion.ticket) {
            home.kill()?;
            return Err("killed while it was started".into());
        }
        match ended.meaning {
            Meaning::Success => Ok(()),
            _ => Err(ended.told),
        }
    }

    pub(super) fn stop_ocf(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (resource, config): (&Resource, &Ocf),
    ) -> Result<(), String> {
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        if slot.overtaken(completion.ticket) {
            return Err("killed before it was stopped in good order".into());
        }
        self.stop_by_agent(&slot.key, config, (action.epoch, resource.stop_timeout))?;
        if slot.overtaken(completion.ticket) {
            return Err("killed while it was stopped in good order".into());
        }
        if !home.is_empty() {
            self.out.log(&slot.key, "kills what its agent left running");
        }
        home.clear(LEFT_WAIT)
            .map_err(|left| format!("what its agent left is {left}"))?;
        self.forget_record(&slot.key);
        Ok(())
    }

    /// Kills its processes, overtaking a start or stop that is under way, and has the agent take back
    /// the rest.
    pub(super) fn kill_ocf(&self, slot: &Slot, config: &Ocf) -> Result<(), String> {
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        let end = Instant::now() + KILL_LIMIT;
        let left = || end.saturating_duration_since(Instant::now());
        let record = self.records.read(&slot.key);
        let _lane = self.overtake(slot, &home, end)?;
        home.clear(left())?;
        let epoch = record.map_or(Epoch(0), |record| record.epoch);
        self.stop_by_agent(&slot.key, config, (epoch, left()))?;
        home.clear(left())?;
        self.forget_record(&slot.key);
        Ok(())
    }

    fn stop_by_agent(
        &self,
        key: &Key,
        config: &Ocf,
        (epoch, timeout): (Epoch, Duration),
    ) -> Result<(), String> {
        if let Err(missing) = self.agent_file(config) {
            // Without its agent nothing of it can have been started, unless it was there before.
            return match self.records.read(key) {
                None => Ok(()),
                Some(_) => Err(missing),
            };
        }
        let home = Home::of(&self.settings.cgroup_root, key);
        let cgroup = home.for_stop().map_err(|error| error.to_string())?;
        let order = Order {
            action: Action::Stop,
            epoch: Some(epoch),
            cgroup,
            timeout,
        };
        let ended = self.call(key, config, order);
        match ended.meaning {
            Meaning::Success | Meaning::NotRunning => Ok(()),
            _ => Err(ended.told),
        }
    }

    /// Has the agent look; `Err`: it does not run, and why.
    ///
    /// On a node that has not started it this is a probe, which tells also whether the node could.
    pub(super) fn monitor(
        &self,
        key: &Key,
        index: usize,
        (config, timeout): (&Ocf, Duration),
    ) -> Result<(), String> {
        self.agent_file(config)?;
        let home = Home::of(&self.settings.cgroup_root, key);
        let cgroup = home.for_check(index).map_err(|error| error.to_string())?;
        let started = self.records.read(key).is_some();
        let interval = if started {
            config.interval
        } else {
            Duration::ZERO
        };
        let order = Order {
            action: Action::Monitor {
                interval,
                check_level: config.check_level,
            },
            epoch: None,
            cgroup,
            timeout,
        };
        let ended = self.call(key, config, order);
        let unfit = ended.meaning == Meaning::Unfit;
        let mut probed = lock(&self.verdicts.probed);
        match unfit {
            true => probed.insert((key.clone(), index), ended.told.clone()),
            false => probed.remove(&(key.clone(), index)),
        };
        drop(probed);
        match ended.meaning {
            Meaning::Success => Ok(()),
            _ => Err(ended.told),
        }
    }

    /// Why the agent could not be called here. What it says itself comes from its probes.
    pub(super) fn ocf_problems(&self, config: &Ocf) -> Vec<String> {
        self.agent_file(config).err().into_iter().collect()
    }

    fn agent_file(&self, config: &Ocf) -> Result<(), String> {
        match agent(config).find(&self.settings.ocf_root) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}: {}", error.advice())),
        }
    }

    fn call(&self, key: &Key, config: &Ocf, order: Order) -> Ended {
        let agent = agent(config);
        let node = self.config().node.clone();
        let parameters = config.parameters.iter();
        let call = Call {
            agent: &agent,
            action: order.action,
            instance: &format!("{}.{}", key.0, key.1),
            node: &node,
            parameters: parameters.map(|(k, v)| (k.as_str(), v.as_str())).collect(),
            timeout: order.timeout,
        };
        let env = match order.epoch {
            Some(epoch) => self.variables(key, epoch),
            None => self.names(key),
        };
        let program = call.program(&self.settings.ocf_root, env, Some(order.cgroup));
        let run = run(&program, order.timeout, OUTPUT_KEPT);
        let work = word(order.action);
        // Monitors are many, and say nothing that is not in what they find.
        if !matches!(order.action, Action::Monitor { .. })
            && let Err(error) = self.records.add_run(key, ProgramRun::of(work, &run))
        {
            self.out
                .log(key, format_args!("cannot keep the run: {error}"));
        }
        let said = ocf::reason(&run.text()).map_or(String::new(), |line| format!(": {line}"));
        let name = agent.to_string();
        match run.outcome {
            Outcome::Exit(code) => {
                let (meaning, words) = ocf::meaning(code);
                Ended {
                    meaning,
                    told: format!("{work}: {name} {words} (exit code {code}){said}"),
                }
            }
            Outcome::TimedOut => Ended {
                meaning: Meaning::Failed,
                told: format!(
                    "{work}: {name} did not end within {} s and was killed{said}",
                    order.timeout.as_secs_f64()
                ),
            },
            outcome => Ended {
                meaning: Meaning::Failed,
                told: format!("{work}: {name}: {outcome}{said}"),
            },
        }
    }
}
