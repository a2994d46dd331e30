//! Programs that run for as long as all is well: started with their resource, ended with it. Their end
//! is a failure, which the detector's next turn tells.

use super::Shared;
use super::check::{Watch, detectors};
use super::home::{Home, program};
use super::service::last_line;
use super::slot::{Key, lock};
use hotpair_core::config::Environment;
use hotpair_core::ids::Epoch;
use hotpair_host::process::{LogFile, Supervised};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// Size at which the output file is moved to `NAME.1`, in bytes.
const LOG_CAP: u64 = 1 << 20;

/// How long one that was killed is waited for.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// A resource, and the number of its detector.
type Place = (Key, usize);

/// The monitor programs of this node.
#[derive(Default)]
pub(super) struct Monitors {
    running: Mutex<BTreeMap<Place, Running>>,
}

struct Running {
    supervised: Supervised,
    command: Vec<String>,
    environment: Environment,
    epoch: Epoch,
    log: LogFile,
    log_path: PathBuf,
}

impl Monitors {
    /// Starts the program of a resource that runs here since `epoch`; `Err` once it has ended, and why.
    /// The turn after that starts it anew.
    pub(super) fn look(
        &self,
        shared: &Shared,
        place: &Place,
        (command, environment): (&[String], &Environment),
        epoch: Epoch,
    ) -> Result<(), String> {
        let mut running = lock(&self.running);
        if let Some(one) = running.get_mut(place)
            && (one.epoch, one.command.as_slice(), &one.environment)
                == (epoch, command, environment)
        {
            let _ = one.log.rotate(LOG_CAP);
            let Some(exit) = one.supervised.exit() else {
                return Ok(());
            };
            let name = command.first().map_or("", String::as_str);
            let said = last_line(&one.log_path);
            let said = said.map_or(String::new(), |line| format!("; last line: {line}"));
            running.remove(place);
            clear(shared, place);
            return Err(format!("monitor program {name} has ended: {exit}{said}"));
        }
        // Of an earlier start or configuration, or of an earlier run of the daemon.
        running.remove(place);
        clear(shared, place);
        let (group, resource) = &place.0;
        let log_path = shared
            .settings
            .log_dir
            .join(format!("{group}.{resource}.monitor{}.log", place.1));
        let log = LogFile::open(&log_path).map_err(|error| error.to_string())?;
        let home = Home::of(&shared.settings.cgroup_root, &place.0);
        let cgroup = home.for_check(place.1).map_err(|error| error.to_string())?;
        let program = program(
            command,
            environment,
            shared.variables(&place.0, epoch),
            Some(cgroup),
        );
        let supervised = Supervised::spawn(&program, &log).map_err(|error| error.to_string())?;
        let one = Running {
            supervised,
            command: command.to_vec(),
            environment: environment.clone(),
            epoch,
            log,
            log_path,
        };
        running.insert(place.clone(), one);
        Ok(())
    }

    /// Ends the program of a resource that does not run here.
    pub(super) fn end(&self, shared: &Shared, place: &Place) {
        if lock(&self.running).remove(place).is_some() {
            clear(shared, place);
        }
    }

    /// The resource is being stopped; also what an earlier run of the daemon left of its programs ends.
    pub(super) fn end_all_of(&self, shared: &Shared, key: &Key) {
        let resource = shared.resource(key);
        for (index, watch) in resource.iter().flat_map(detectors).enumerate() {
            if watch.monitor().is_some() {
                let place = (key.clone(), index);
                lock(&self.running).remove(&place);
                clear(shared, &place);
            }
        }
    }

    /// Ends those that are configured no more, or differently.
    pub(super) fn keep(&self, shared: &Shared, wanted: &BTreeMap<Key, Vec<Watch>>) {
        let is_wanted = |(key, index): &Place| {
            let watch = wanted.get(key).and_then(|all| all.get(*index));
            watch.is_some_and(|watch| watch.monitor().is_some())
        };
        let running = lock(&self.running);
        let places: Vec<Place> = running
            .keys()
            .filter(|place| !is_wanted(place))
            .cloned()
            .collect();
        drop(running);
        for place in places {
            self.end(shared, &place);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.supervised.kill();
        // So that no zombie stays.
        let _ = self.supervised.wait(KILL_WAIT);
    }
}

/// Kills what is in the cgroup of a check.
fn clear(shared: &Shared, place: &Place) {
    let home = Home::of(&shared.settings.cgroup_root, &place.0);
    if let Ok(cgroup) = home.for_check(place.1)
        && !cgroup.is_empty().unwrap_or(true)
    {
        let _ = cgroup.kill();
        let _ = cgroup.wait_empty(KILL_WAIT);
    }
}
