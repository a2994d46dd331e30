//! A rig that drives one group by names: `settle` answers with lines such as `start db`.

mod changing;
mod failing;
mod maintaining;
mod operated;
mod random;
mod reporting;
mod starting;
mod stopping;

use super::*;
use crate::config::{
    Address, Check, Detector, Environment, Failback, FinalAction, OnStartFailure, OnStopFailure,
    OnSwitchFailure, Program, Resource, ResourceKind, Restart, Service, StartMode, Takeover,
};
use crate::report::{GroupReport, GroupState, ResourceState};
use crate::time::Moment;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

struct Rig {
    run: GroupRun,
    ids: ActionIds,
    config: Group,
    epoch: u64,
    want: Want,
    maintenance: bool,
    resources: BTreeSet<ResourceId>,
    stopped: BTreeSet<ResourceId>,
    restarts: BTreeMap<ResourceId, u64>,
    now_ms: u64,
    /// Issued and not ended.
    open: Vec<ResourceAction>,
}

const NONE: [&str; 0] = [];

impl Rig {
    /// `db` and `site` (services without detectors), `ip`; `site` requires both others.
    fn web() -> Self {
        Self::of(&[
            ("db", service(&[])),
            ("ip", address(&[])),
            ("site", service(&["db", "ip"])),
        ])
    }

    /// `a` <- `b` <- `c`, each required by the next.
    fn chain() -> Self {
        Self::of(&[
            ("a", service(&[])),
            ("b", service(&["a"])),
            ("c", service(&["b"])),
        ])
    }

    /// One service with a detector of 5 s interval, to be found running within 10 s.
    fn watched() -> Self {
        Self::of(&[("app", watched(service(&[])))])
    }

    fn of(resources: &[(&str, Resource)]) -> Self {
        Self {
            run: GroupRun::new("web".into()),
            ids: ActionIds::default(),
            config: group(resources),
            epoch: 1,
            want: Want::Run,
            maintenance: false,
            resources: BTreeSet::new(),
            stopped: BTreeSet::new(),
            restarts: BTreeMap::new(),
            now_ms: 1_000,
            open: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment(self.now_ms * 1_000)
    }

    fn wait(&mut self, ms: u64) -> &mut Self {
        self.now_ms += ms;
        self
    }

    fn settle(&mut self) -> Vec<String> {
        let now = self.now();
        let orders = Orders {
            me: MemberId(1),
            config: &self.config,
            epoch: Epoch(self.epoch),
            want: self.want,
            maintenance: self.maintenance,
            maintenance_resources: &self.resources,
            stopped: self.stopped.clone(),
            restarts: &self.restarts,
        };
        let actions = self.run.settle(now, &orders, &mut self.ids);
        assert_eq!(
            self.run.settle(now, &orders, &mut self.ids),
            [],
            "settling again emits nothing"
        );
        let lines = actions.iter().map(line).collect();
        self.open.extend(actions);
        lines
    }

    /// The operator stops these resources, and no others.
    fn stops(&mut self, resources: &[&str]) -> Vec<String> {
        self.stopped = resources.iter().map(|&id| id.into()).collect();
        self.settle()
    }

    /// The operator asks for a restart.
    fn restarts(&mut self, resource: &str) -> Vec<String> {
        *self.restarts.entry(resource.into()).or_default() += 1;
        self.settle()
    }

    fn asks(&mut self, want: Want) -> Vec<String> {
        self.want = want;
        self.settle()
    }

    fn end(&mut self, what: &str, result: Result<(), String>) -> Vec<String> {
        let at = self.open.iter().position(|action| line(action) == what);
        let Some(at) = at else {
            panic!("{what} is not under way: {:?}", self.open)
        };
        let action = self.open.remove(at);
        self.run.done(self.now(), action.id, result);
        self.settle()
    }

    fn ok(&mut self, what: &str) -> Vec<String> {
        self.end(what, Ok(()))
    }

    fn fails(&mut self, what: &str) -> Vec<String> {
        self.end(what, Err(format!("{what} failed")))
    }

    fn fact(&mut self, resource: &str, fact: ResourceFact) -> Vec<String> {
        self.run.fact(self.now(), &resource.into(), fact);
        self.settle()
    }

    fn found(&mut self, resource: &str, running: bool) -> Vec<String> {
        let detail = if running { "" } else { "port 80 is closed" };
        self.fact(
            resource,
            ResourceFact::Detected {
                running,
                detail: detail.into(),
            },
        )
    }

    fn exits(&mut self, resource: &str) -> Vec<String> {
        self.exits_of(resource, self.epoch)
    }

    fn exits_of(&mut self, resource: &str, epoch: u64) -> Vec<String> {
        self.fact(
            resource,
            ResourceFact::Exited {
                epoch: Epoch(epoch),
                detail: "exit code 1".into(),
            },
        )
    }

    fn verdict(&mut self, resource: &str, problems: &[&str]) -> Vec<String> {
        let problems = problems.iter().map(|&p| p.to_owned()).collect();
        self.fact(resource, ResourceFact::Verdict { problems })
    }

    fn adopts(&mut self, resource: &str) {
        self.run.fact(
            self.now(),
            &resource.into(),
            ResourceFact::Adopted { epoch: Epoch(1) },
        );
    }

    fn report(&self) -> GroupReport {
        let orders = Orders {
            me: MemberId(1),
            config: &self.config,
            epoch: Epoch(self.epoch),
            want: self.want,
            maintenance: self.maintenance,
            maintenance_resources: &self.resources,
            stopped: self.stopped.clone(),
            restarts: &self.restarts,
        };
        self.run.report(&orders, true)
    }

    fn state(&self) -> GroupState {
        self.report().state
    }

    fn resource(&self, id: &str) -> ResourceState {
        self.report().resources[&id.into()].state
    }

    fn deadline_ms(&self) -> Option<u64> {
        self.run.deadline().map(|at| at.0 / 1_000)
    }

    /// Starts everything and checks that it got there.
    fn running(mut self) -> Self {
        self.settle();
        self.finish();
        assert_eq!(self.state(), GroupState::Running);
        self
    }

    /// Lets every action succeed until nothing is under way.
    fn finish(&mut self) {
        for _ in 0..100 {
            let Some(action) = self.open.pop() else {
                return;
            };
            self.run.done(self.now(), action.id, Ok(()));
            if action.work == Work::Check {
                self.found(&action.resource.0, true);
            }
            self.settle();
        }
        panic!("it does not come to rest: {:?}", self.run);
    }
}

fn line(action: &ResourceAction) -> String {
    let work = match action.work {
        Work::Start => "start",
        Work::Stop => "stop",
        Work::Kill => "kill",
        Work::Check => "check",
    };
    format!("{work} {}", action.resource)
}

fn failed(resource: &str, detail: &str, while_starting: bool) -> GroupState {
    GroupState::Failed {
        resource: Some(resource.into()),
        detail: detail.into(),
        while_starting,
    }
}

fn degraded(detail: &str) -> GroupState {
    GroupState::Degraded {
        detail: detail.into(),
    }
}

fn group(resources: &[(&str, Resource)]) -> Group {
    Group {
        resources: resources
            .iter()
            .map(|(id, resource)| ((*id).into(), resource.clone()))
            .collect(),
        nodes: vec![MemberId(1), MemberId(2)],
        start: StartMode::Automatic,
        takeover: Takeover::ByPriority,
        failback: Failback::Stay,
        restart: Restart::default(),
        on_start_failure: OnStartFailure::NextNode,
        on_stop_failure: OnStopFailure::Wait,
        final_action: FinalAction::StopGroup,
        on_switch_failure: OnSwitchFailure::GoBack,
        priority: 0,
        ungated: false,
        fence: false,
        confirm: crate::config::Confirm::No,
        relations: Vec::new(),
    }
}

fn resource(kind: ResourceKind, requires: &[&str]) -> Resource {
    Resource {
        kind,
        requires: requires.iter().map(|&id| id.into()).collect(),
        detectors: Vec::new(),
        hooks: Vec::new(),
        start_timeout: Duration::from_secs(60),
        stop_timeout: Duration::from_secs(60),
        running_within: Duration::from_secs(10),
    }
}

fn service(requires: &[&str]) -> Resource {
    let service = Service {
        command: vec!["/usr/bin/app".into()],
        environment: Environment::default(),
    };
    resource(ResourceKind::Service(service), requires)
}

fn program(status: bool) -> Resource {
    let program = Program {
        start: vec!["/bin/start".into()],
        stop: vec!["/bin/stop".into()],
        status: status.then(|| vec!["/bin/status".into()]),
        environment: Environment::default(),
    };
    resource(ResourceKind::Program(program), &[])
}

fn address(requires: &[&str]) -> Resource {
    let address = Address {
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)),
        prefix: 24,
        nics: vec!["eth0".into()],
        nics_on: BTreeMap::new(),
        gateway: None,
    };
    resource(ResourceKind::Address(address), requires)
}

fn watched(mut resource: Resource) -> Resource {
    resource.detectors.push(Detector {
        check: Check::Tcp {
            address: None,
            port: 80,
            program: None,
        },
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(3),
        tries: 1,
        of_node: false,
    });
    resource
}
