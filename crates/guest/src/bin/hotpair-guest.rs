//! Boots a guest by hand: `hotpair-guest --module drbd -- uname -a`.

use clap::Parser;
use hotpair_guest::{Disk, Guest, GuestError, Spec};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Boot a small QEMU guest with Debian's kernel, run a command in it, and end it. Needs root.
#[derive(Debug, Parser)]
struct Arguments {
    /// Its name.
    #[arg(long, default_value = "guest")]
    name: String,
    /// Memory in MiB.
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// Load this module; may be given several times, with parameters in quotes.
    #[arg(long = "module", value_name = "MODULE")]
    modules: Vec<String>,
    /// Take this program along; may be given several times.
    #[arg(long = "program", value_name = "PROGRAM")]
    programs: Vec<PathBuf>,
    /// An empty disk of so many MiB; may be given several times.
    #[arg(long = "disk", value_name = "MIB")]
    disks: Vec<u64>,
    /// For how long the command may run, in seconds.
    #[arg(long, default_value_t = 60.0)]
    limit: f64,
    /// What to run, by a shell.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Practice clusters that guests can be part of.
#[derive(Debug, Parser)]
struct Practice {
    #[command(flatten)]
    lab: hotpair_lab::cli::LabArgs,
}

fn main() -> ExitCode {
    // Processes of a lab start each other with `PROGRAM lab …`, as in `hotpair`.
    let mut words: Vec<_> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "lab") {
        words.remove(1);
        return hotpair_lab::cli::run(Practice::parse_from(words).lab);
    }
    match run(Arguments::parse_from(words)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hotpair-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, GuestError> {
    let guest = Guest::boot(Spec {
        name: arguments.name,
        memory_mib: arguments.memory,
        modules: arguments.modules,
        programs: arguments.programs,
        disks: arguments
            .disks
            .iter()
            .map(|mib| Disk::Scratch(mib << 20))
            .collect(),
        ..Spec::default()
    })?;
    eprintln!("booted in {:.1} s", guest.boot_time().as_secs_f64());
    let limit = Duration::from_secs_f64(arguments.limit.clamp(1.0, 86_400.0));
    let output = guest.try_run(&arguments.command.join(" "), limit)?;
    // Whoever closed our output wants no more of it.
    let _ = std::io::stdout().write_all(&output.stdout);
    let _ = std::io::stderr().write_all(&output.stderr);
    guest.power_off()?;
    Ok(ExitCode::from(u8::try_from(output.code).unwrap_or(1)))
}
