//! `hotpair lab …`: arguments, and what each subcommand prints.

use crate::control::{HostState, Status};
use crate::enter;
use crate::error::{LabError, Result};
use crate::fault::Fault;
use crate::host::Program;
use crate::init::{self, Boot};
use crate::lab::{self, Lab};
use crate::plan::{APP_PORT, Plan, Profile, Shape, VIRTUAL_IP, Witness};
use crate::probe::{ProbeOptions, ProbeReport};
use crate::{clean, sample};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Practice clusters on this machine, where every fault can be tried.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// Which lab, if there are several.
    #[arg(long, global = true, default_value = "lab", value_name = "LAB")]
    name: String,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Start a practice cluster in the background.
    Up {
        /// Number of nodes, 1 to 16.
        #[arg(long, default_value_t = 2)]
        nodes: usize,
        /// Timing profile.
        #[arg(long, value_enum, default_value = "standard")]
        profile: Profile,
        /// Who gives the third vote.
        #[arg(long, value_enum, default_value = "host")]
        witness: Witness,
        /// Hosts only, without a cluster on them.
        #[arg(long)]
        bare: bool,
        /// A plan of your own, as JSON, instead of the cluster's.
        #[arg(long, value_name = "FILE", conflicts_with = "bare")]
        plan: Option<PathBuf>,
    },
    /// End it and remove everything of it.
    Down,
    /// Show hosts and faults.
    Status,
    /// Run a program on a host.
    Exec {
        /// The host: node1, node2, witness, client.
        host: String,
        /// Program and arguments.
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// Undo all faults, resume paused hosts, boot hosts without power.
    Heal,
    /// Let something happen to a host.
    #[command(after_help = faults())]
    Fault {
        /// What happens.
        fault: String,
        /// Where it happens.
        host: String,
        /// Percent, link, direction, interface or seconds.
        argument: Option<String>,
    },
    /// Watch the virtual IP as a client and as a referee.
    Probe {
        /// For how long, in seconds.
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Time between two requests, in milliseconds.
        #[arg(long, default_value_t = 1.0)]
        interval_ms: f64,
        /// Silence longer than twice the interval and this is an outage, in milliseconds.
        #[arg(long, default_value_t = 10.0)]
        threshold_ms: f64,
        /// The virtual IP.
        #[arg(long, default_value_t = VIRTUAL_IP)]
        address: Ipv4Addr,
        /// The application's UDP port.
        #[arg(long, default_value_t = APP_PORT)]
        port: u16,
    },
    /// The application of the practice group.
    #[command(hide = true)]
    SampleApp {
        /// Address and port, UDP and TCP.
        #[arg(long)]
        listen: SocketAddr,
        /// What it calls itself; the host name by default.
        #[arg(long = "as", value_name = "NAME")]
        node: Option<String>,
    },
    #[command(hide = true)]
    Keeper,
    #[command(hide = true)]
    HostInit {
        #[arg(long, value_parser = boot)]
        boot: Boot,
    },
    #[command(hide = true)]
    Enter {
        #[arg(long)]
        init_pid: i32,
        #[arg(long, value_parser = boot)]
        boot: Boot,
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
}

fn boot(text: &str) -> std::result::Result<Boot, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

fn faults() -> String {
    let lines = crate::fault::NAMES
        .map(|(name, argument)| format!("  {}", [name, argument].join(" ").trim_end()));
    format!("Faults:\n{}", lines.join("\n"))
}

/// Runs one `hotpair lab` command; exit code 1 and a message on standard error if it fails.
pub fn run(args: LabArgs) -> ExitCode {
    match dispatch(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hotpair lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: LabArgs) -> Result<ExitCode> {
    let LabArgs {
        name,
        json,
        command,
    } = args;
    match command {
        LabCommand::Up {
            nodes,
            profile,
            witness,
            bare,
            plan,
        } => {
            up(
                &name,
                json,
                Shape {
                    nodes,
                    profile,
                    witness,
                },
                bare,
                plan,
            )?;
        }
        LabCommand::Down => down(&name, json)?,
        LabCommand::Status => show(&Lab::attach(&name)?.status()?, json)?,
        LabCommand::Exec { host, argv } => {
            let mut command = Lab::attach(&name)?.command(&host, &argv)?;
            let status = command
                .status()
                .map_err(|e| LabError::system("enter the host", e))?;
            return Ok(ExitCode::from(enter::code(status)));
        }
        LabCommand::Heal => {
            Lab::attach(&name)?.heal()?;
            say(json, &Done { done: "healed" }, "healed");
        }
        LabCommand::Fault {
            fault,
            host,
            argument,
        } => {
            let fault = Fault::parse(&fault, argument.as_deref())?;
            let injection = Lab::attach(&name)?.fault(&host, fault)?;
            let took = injection.done_mono_us.saturating_sub(injection.at_mono_us);
            let text = format!(
                "{} (at {} us of CLOCK_MONOTONIC, complete {took} us later)",
                injection.detail, injection.at_mono_us
            );
            say(json, &injection, &text);
        }
        LabCommand::Probe {
            seconds,
            interval_ms,
            threshold_ms,
            address,
            port,
        } => {
            let options = ProbeOptions {
                address,
                port,
                interval: span(interval_ms / 1000.0, "--interval-ms")?,
                threshold: span(threshold_ms / 1000.0, "--threshold-ms")?,
                ..ProbeOptions::default()
            };
            let time = span(seconds, "--seconds")?;
            let probe = Lab::attach(&name)?.probe(&options)?;
            std::thread::sleep(time);
            let report = probe.finish()?;
            say(json, &report, &describe(&report));
        }
        LabCommand::SampleApp { listen, node } => sample::run(listen, node)?,
        LabCommand::Keeper => lab::keep(&name)?,
        LabCommand::HostInit { boot } => init::run(&boot)?,
        LabCommand::Enter {
            init_pid,
            boot,
            argv,
        } => return lab::enter_host(init_pid, &boot, &argv),
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Done {
    done: &'static str,
}

fn say(json: bool, value: &impl Serialize, text: &str) {
    match serde_json::to_string_pretty(value) {
        Ok(object) if json => println!("{object}"),
        _ => println!("{text}"),
    }
}

fn span(seconds: f64, option: &str) -> Result<Duration> {
    let fits = (0.0..=86_400.0).contains(&seconds);
    let error = || LabError::Keeper(format!("{option} must be positive and at most a day"));
    if fits {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(error())
    }
}

fn up(name: &str, json: bool, shape: Shape, bare: bool, file: Option<PathBuf>) -> Result<()> {
    let plan = match file {
        Some(path) => {
            let text = std::fs::read_to_string(&path).map_err(LabError::file("read", &path))?;
            serde_json::from_str(&text)
                .map_err(|e| LabError::BadPlan(format!("{}: {e}", path.display())))?
        }
        None if bare => Plan::bare(shape)?,
        None => Plan::cluster(shape)?,
    };
    let lab = Lab::up(&Program::current()?, name, &plan)?;
    show(&lab.status()?, json)
}

fn down(name: &str, json: bool) -> Result<()> {
    match Lab::attach(name) {
        Ok(lab) => lab.down()?,
        // `attach` has removed what a crashed lab left; nothing to end is what was asked for.
        Err(LabError::NotRunning(_)) => {
            clean::remove_stale()?;
        }
        Err(error) => return Err(error),
    }
    say(
        json,
        &Done { done: "down" },
        &format!("lab {name} is down, nothing of it is left"),
    );
    Ok(())
}

fn show(status: &Status, json: bool) -> Result<()> {
    let mut text = format!("lab {}, keeper {}\n", status.name, status.keeper_pid);
    for host in &status.hosts {
        let state = match host.state {
            HostState::On => "on",
            HostState::Off => "off",
            HostState::Paused => "paused",
        };
        let addresses: Vec<_> = host
            .plan
            .nics
            .iter()
            .flat_map(|nic| &nic.addresses)
            .map(String::as_str)
            .collect();
        let faults = if host.faults.is_empty() {
            String::new()
        } else {
            format!("  [{}]", host.faults.join(", "))
        };
        text.push_str(&format!(
            "  {:<8} {state:<7} {}{faults}\n",
            host.plan.name,
            addresses.join(" ")
        ));
    }
    say(json, status, text.trim_end());
    Ok(())
}

fn describe(report: &ProbeReport) -> String {
    let mut text = format!("{} requests, {} answers", report.requests, report.answers);
    for (node, count) in &report.answers_by_node {
        text.push_str(&format!(", {count} from {node}"));
    }
    for outage in &report.outages {
        let name = |node: &Option<String>| node.clone().unwrap_or_else(|| "nobody".to_owned());
        let (from, to) = (name(&outage.from_node), name(&outage.to_node));
        text.push_str(&format!(
            "\noutage of {:.1} ms at {:.1} ms: {from} -> {to}",
            outage.length_ms, outage.start_ms
        ));
    }
    text.push_str(&format!(
        "\nlongest outage {:.1} ms, double answers {} ms, address held twice {:.1} ms",
        report.longest_outage_ms, report.double_answer_ms, report.double_held_ms
    ));
    text
}
