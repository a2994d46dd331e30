//! Fence devices, by the programs of the `fence-agents` package.
//!
//! An agent takes `name=value` lines on its standard input and answers by its exit code
//! (<https://github.com/ClusterLabs/fence-agents/blob/main/doc/FenceAgentAPI.md>): 0 means done for `reboot` and
//! `off`, and that the device answers for `monitor`.

use hotpair_api::FenceView;
use hotpair_core::config::{Cluster, FenceAction, FenceDevice};
use hotpair_host::process::{Outcome, Program, run};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Most that an agent's words are kept, in bytes.
const KEPT: usize = 2 << 10;
/// Most that a file with secrets may hold, in bytes.
const SECRETS: u64 = 64 << 10;
/// Longest time that one device is asked whether it answers.
const ASK: Duration = Duration::from_secs(30);

/// Fences a node by the first of its devices that succeeds. Blocks for as long as they all may take.
///
/// # Errors
/// None did; why, for each.
pub fn fence(devices: &[FenceDevice]) -> Result<(), String> {
    let mut failures = Vec::new();
    for device in devices {
        let action = match device.action {
            FenceAction::Reboot => "reboot",
            FenceAction::Off => "off",
        };
        match ask(device, action, device.timeout) {
            Ok(_) => return Ok(()),
            Err(why) => failures.push(format!("{}: {why}", device.name)),
        }
    }
    if failures.is_empty() {
        return Err("it has no fence device".into());
    }
    Err(failures.join("; "))
}

/// Every device; with `test` each is asked whether it answers. Blocks for as long as that takes.
#[must_use]
pub fn views(config: &Cluster, test: bool) -> Vec<FenceView> {
    let all = config.fencing.devices.iter();
    all.flat_map(|(&node, devices)| devices.iter().map(move |device| (node, device)))
        .map(|(node, device)| {
            let answer = test.then(|| ask(device, "monitor", device.timeout.min(ASK)));
            FenceView {
                device: device.name.clone(),
                node: config.name_of(node),
                level: device.level,
                agent: device.agent.clone(),
                action: match device.action {
                    FenceAction::Reboot => "reboot".into(),
                    FenceAction::Off => "off".into(),
                },
                answers: answer.as_ref().map(Result::is_ok),
                said: answer.map_or_else(String::new, |answer| answer.unwrap_or_else(|why| why)),
            }
        })
        .collect()
}

fn ask(device: &FenceDevice, action: &str, limit: Duration) -> Result<String, String> {
    let mut input = String::new();
    for (name, value) in &device.parameters {
        input.push_str(&line(name, value)?);
    }
    if let Some(path) = &device.secrets {
        input.push_str(&secrets(path)?);
    }
    input.push_str(&format!("action={action}\n"));
    let program = Program {
        input: input.into_bytes(),
        ..Program::new([device.agent.as_str()])
    };
    let run = run(&program, limit, KEPT);
    let said = last_words(&run.text());
    match &run.outcome {
        Outcome::Exit(0) => Ok(said),
        Outcome::TimedOut => Err(format!(
            "{} did not end within {} s and was killed",
            device.agent,
            limit.as_secs()
        )),
        outcome if said.is_empty() => Err(format!("{} ({outcome})", device.agent)),
        outcome => Err(format!("{said} ({outcome})")),
    }
}

/// One value is one line.
fn line(name: &str, value: &str) -> Result<String, String> {
    if value.contains(['\n', '\r']) {
        return Err(format!("the value of {name} has more than one line"));
    }
    Ok(format!("{name}={value}\n"))
}

/// The lines of a file that only root can read.
fn secrets(path: &str) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("the secrets in {path} cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(cannot)?;
    let data = file.metadata().map_err(cannot)?;
    if !data.is_file() || data.uid() != 0 || data.mode() & 0o077 != 0 {
        return Err(format!(
            "others than root can read {path}: run `chown root {path}; chmod 600 {path}`"
        ));
    }
    let mut text = String::new();
    file.take(SECRETS)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// The last line that says anything, without what a terminal does not show.
fn last_words(text: &str) -> String {
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    let line = line.unwrap_or_default().chars().filter(|c| !c.is_control());
    line.take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn device(agent: &Path) -> FenceDevice {
        FenceDevice {
            name: agent.file_name().unwrap().to_string_lossy().into(),
            level: 1,
            agent: agent.to_str().unwrap().into(),
            parameters: BTreeMap::from([("ip".into(), "10.0.0.9".into())]),
            secrets: None,
            action: FenceAction::Off,
            timeout: Duration::from_secs(20),
        }
    }

    fn agent(dir: &Path, name: &str, script: &str) -> FenceDevice {
        let (text, path) = (dir.join(format!("{name}.text")), dir.join(name));
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // By another process: a child forked meanwhile would hold our open file, which could not be run then.
        let mut install = std::process::Command::new("install");
        let installed = install.args(["-m", "755"]).args([&text, &path]).status();
        assert!(installed.unwrap().success());
        device(&path)
    }

    #[test]
    fn agent_is_given_parameters_secrets_and_action_on_its_standard_input_alone() {
        let dir = tempfile::tempdir().unwrap();
        let heard = dir.path().join("heard");
        let mut it = agent(
            dir.path(),
            "a",
            &format!("cat >{0}; echo \"args:$*\" >>{0}", heard.display()),
        );
        let file = dir.path().join("secret");
        std::fs::write(&file, "passwd=horse").unwrap();
        it.secrets = Some(file.to_str().unwrap().into());
        let refused = fence(std::slice::from_ref(&it)).unwrap_err();
        assert!(refused.contains("chmod 600"), "{refused}");
        std::process::Command::new("chmod")
            .arg("600")
            .arg(&file)
            .status()
            .unwrap();
        fence(&[it]).unwrap();
        assert_eq!(
            std::fs::read_to_string(heard).unwrap(),
            "ip=10.0.0.9\npasswd=horse\naction=off\nargs:\n"
        );
    }

    #[test]
    fn levels_are_tried_until_one_succeeds_and_every_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let bad = agent(dir.path(), "bad", "echo 'Connection timed out' >&2; exit 1");
        let mut hung = agent(dir.path(), "hung", "sleep 1000");
        hung.timeout = Duration::from_millis(300);
        let missing = device(Path::new("/nonexistent/fence_none"));
        let good = agent(dir.path(), "good", "exit 0");
        assert_eq!(fence(&[bad.clone(), hung.clone(), good]), Ok(()));
        let why = fence(&[bad, hung, missing]).unwrap_err();
        for part in [
            "bad: Connection timed out (exit code 1)",
            "hung: ",
            "was killed",
            "fence_none",
        ] {
            assert!(why.contains(part), "{why}");
        }
        assert!(fence(&[]).is_err());
    }

    /// The package's own agent for tests.
    #[test]
    fn agent_of_the_package_is_asked_and_used() {
        if run(&Program::new(["fence_dummy", "-V"]), ASK, KEPT).outcome != Outcome::Exit(0) {
            eprintln!("skipped: fence-agents is not installed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut it = device(Path::new("fence_dummy"));
        it.parameters = BTreeMap::from([
            ("type".to_owned(), "file".to_owned()),
            ("status_file".to_owned(), state.to_str().unwrap().to_owned()),
        ]);
        std::fs::write(&state, "on").unwrap();
        assert!(ask(&it, "monitor", ASK).is_ok());
        assert_eq!(fence(std::slice::from_ref(&it)), Ok(()));
        assert_eq!(std::fs::read_to_string(&state).unwrap(), "off");
        it.parameters.insert("type".into(), "fail".into());
        it.timeout = Duration::from_millis(500);
        assert!(fence(&[it]).is_err());
    }

    #[test]
    fn values_of_more_than_one_line_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut it = agent(dir.path(), "a", "exit 0");
        it.parameters.insert("plug".into(), "1\naction=on".into());
        assert!(fence(&[it]).unwrap_err().contains("more than one line"));
    }
}
