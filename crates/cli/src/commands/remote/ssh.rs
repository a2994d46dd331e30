//! The system's own `ssh`, so that its keys, agents, jump hosts and known hosts all count.

use crate::failure::Failure;
use clap::Args;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How to reach the other machine.
#[derive(Clone, Debug, Args)]
pub struct SshArgs {
    /// The machine, as `ssh` is told: `root@10.0.0.2`. Without root it needs `sudo` without a password.
    #[arg(value_name = "[USER@]HOST", value_parser = target)]
    pub target: String,
    /// Port of its SSH server.
    #[arg(long, value_name = "PORT")]
    pub ssh_port: Option<u16>,
    /// Private key to log in with.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Take the host key of a machine that is not known yet; one that has changed is refused all the same.
    #[arg(long)]
    pub accept_new_host_key: bool,
    /// An option of ssh_config(5), several times if need be: `ProxyJump=gate`.
    #[arg(long, value_name = "NAME=VALUE")]
    pub ssh_option: Vec<String>,
}

fn target(text: &str) -> Result<String, String> {
    if text.starts_with('-')
        || text.is_empty()
        || text.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return Err(format!("`{text}` is no machine: write root@10.0.0.2"));
    }
    Ok(text.to_owned())
}

/// Seconds until a machine that does not answer is given up.
const CONNECT_S: u32 = 10;
/// Of what the other side prints, this much is kept.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// Logged in; ends with the value.
pub struct Ssh {
    args: SshArgs,
    /// One connection for all steps: a password is asked for once.
    control: PathBuf,
    /// Through which the other side runs its scripts.
    shell: &'static str,
}

/// How a script of the other side ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ssh {
    /// Logs in.
    ///
    /// # Errors
    /// What `ssh` says, and what to do about it.
    pub fn open(args: &SshArgs) -> Result<Self, Failure> {
        // A path of a Unix socket is short.
        let name = format!("hotpair-ssh-{}", std::process::id());
        let run = std::path::Path::new("/run");
        let directory = if run.is_dir() {
            run.to_owned()
        } else {
            std::env::temp_dir()
        };
        let mut this = Self {
            args: args.clone(),
            control: directory.join(name),
            shell: "sh",
        };
        let who = this.ok("id -u", &mut std::io::empty())?;
        if who.trim() != "0" {
            this.shell = "sudo -n sh";
            this.ok("true", &mut std::io::empty()).map_err(|failure| {
                Failure::refused(format!(
                    "{} is not root there: {}",
                    args.target, failure.message
                ))
                .hint("log in as root, or allow `sudo` without a password for this user")
            })?;
        }
        Ok(this)
    }

    /// Runs a script of the shell there with this input; it must end with code 0.
    pub fn ok(&self, script: &str, input: &mut dyn Read) -> Result<String, Failure> {
        let ended = self.run(script, input)?;
        if ended.code == 0 {
            return Ok(ended.out);
        }
        let said = if ended.err.trim().is_empty() {
            &ended.out
        } else {
            &ended.err
        };
        Err(Failure::refused(format!(
            "{}: {}",
            self.args.target,
            said.trim()
                .lines()
                .last()
                .unwrap_or("failed without a word")
        )))
    }

    /// Runs a script of the shell there, however it ends.
    fn run(&self, script: &str, input: &mut dyn Read) -> Result<Ended, Failure> {
        let mut command = self.command();
        command.arg("--").arg(&self.args.target);
        command.arg(format!("{} -c {}", self.shell, quoted(script)));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                Failure::refused(format!("cannot run `ssh`: {error}"))
                    .hint("install it: `apt install openssh-client`")
            })?;
        let readers = [
            child
                .stdout
                .take()
                .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
            child
                .stderr
                .take()
                .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        ]
        .map(|pipe| std::thread::spawn(move || pipe.map(read).unwrap_or_default()));
        if let Some(mut pipe) = child.stdin.take() {
            // Whoever does not read all of it says why by its exit code.
            let _ = std::io::copy(input, &mut pipe).and_then(|_| pipe.flush());
        }
        let status = child.wait()?;
        let [out, err] = readers.map(|reader| reader.join().unwrap_or_default());
        // Its own failures, against those of what it runs.
        match status.code() {
            Some(255) | None => Err(self.failed(&err)),
            Some(code) => Ok(Ended { code, out, err }),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("ssh");
        let args = &self.args;
        let mut option = |text: String| {
            command.arg("-o").arg(text);
        };
        // The user's own first: ssh takes the first value of each.
        args.ssh_option.iter().cloned().for_each(&mut option);
        option(format!("ConnectTimeout={CONNECT_S}"));
        option("ServerAliveInterval=5".to_owned());
        option("ServerAliveCountMax=3".to_owned());
        option("ControlMaster=auto".to_owned());
        option(format!("ControlPath={}", self.control.display()));
        option("ControlPersist=120".to_owned());
        if args.accept_new_host_key {
            option("StrictHostKeyChecking=accept-new".to_owned());
        }
        if !std::io::stdin().is_terminal() {
            option("BatchMode=yes".to_owned());
        }
        if let Some(port) = args.ssh_port {
            command.arg("-p").arg(port.to_string());
        }
        if let Some(file) = &args.identity {
            command.arg("-i").arg(file);
        }
        command
    }

    fn failed(&self, err: &str) -> Failure {
        let target = &self.args.target;
        let host = target.rsplit('@').next().unwrap_or(target);
        let said = err.trim().lines().last().unwrap_or("the connection ended");
        if err.contains("IDENTIFICATION HAS CHANGED") {
            return Failure::refused(format!(
                "the host key of {host} has changed: it is another machine, or was installed anew, or somebody is in between"
            ))
            .hint(format!("compare it at the machine's own screen (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`); if it is right: `ssh-keygen -R {host}`"));
        }
        let failure = Failure::refused(format!("cannot log in to {target}: {said}"));
        if err.contains("Host key verification failed") {
            return failure.hint(format!(
                "log in by hand once to see its key (`ssh {target}`), or add `--accept-new-host-key`"
            ));
        }
        if err.contains("Permission denied") {
            return failure.hint(format!(
                "run this in a terminal to be asked for the password, or copy a key there: `ssh-copy-id {target}`"
            ));
        }
        failure.hint(format!("try `ssh {target}` by hand; nothing more was done there, run the command again to go on"))
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let mut command = self.command();
        command.args(["-O", "exit", "--"]).arg(&self.args.target);
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _ = quiet.status();
    }
}

fn read(pipe: Box<dyn Read + Send>) -> String {
    let mut bytes = Vec::new();
    let mut pipe = pipe;
    let _ = (&mut pipe).take(OUTPUT_LIMIT).read_to_end(&mut bytes);
    // The rest must go somewhere, or the writer waits for ever.
    let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As one word of the shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_other_side() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $(id)"), r"'it'\''s $(id)'");
    }

    #[test]
    fn no_option_hides_in_a_name_of_a_machine() {
        for wrong in ["", "-oProxyCommand=id", "root@a b", "a\n"] {
            assert!(target(wrong).is_err(), "{wrong:?}");
        }
        assert!(target("root@[fd00::1]").is_ok());
    }
}
