//! `cargo xtask fuzz`: coverage-guided fuzzing of every decoder, with a stable compiler.
//!
//! The targets are built with LLVM's coverage counters and linked with libFuzzer, as `cargo fuzz
//! --sanitizer none` does: the code has next to no `unsafe`, and what is looked for are panics and broken
//! round trips. A C++ compiler is needed, for libFuzzer itself.

use anyhow::{Context, Result, bail};
use clap::Args;
use hotpair_fuzz_checks::TARGETS;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What `cargo fuzz` passes to the compiler for coverage.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";

/// Longest input: more than any message needs to reach all code, little enough to be quick.
const LONGEST: u32 = 16 * 1024;

/// Fuzz the decoders with coverage; what is found stays in `target/fuzz/findings`.
#[derive(Args)]
pub struct Fuzz {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only these targets; all by default.
    targets: Vec<String>,
    /// Write the smallest corpus with the same coverage to `fuzz/corpus`, to be committed.
    #[arg(long)]
    keep: bool,
}

impl Fuzz {
    pub fn run(&self) -> Result<ExitCode> {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        if let Some(unknown) = self.targets.iter().find(|t| !names.contains(&t.as_str())) {
            bail!(
                "there is no target {unknown}; there are: {}",
                names.join(", ")
            );
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .canonicalize()?;
        build(&root)?;
        let mut failed = Vec::new();
        for name in names {
            let wanted = self.targets.is_empty() || self.targets.iter().any(|t| t == name);
            if wanted && !self.fuzz(&root, name)? {
                failed.push(name);
            }
        }
        if failed.is_empty() {
            println!("nothing found");
            return Ok(ExitCode::SUCCESS);
        }
        println!("found something: {}", failed.join(", "));
        Ok(ExitCode::FAILURE)
    }

    /// True if nothing was found.
    fn fuzz(&self, root: &Path, name: &str) -> Result<bool> {
        let kept = root.join("fuzz/corpus").join(name);
        let grown = root.join("target/fuzz/corpus").join(name);
        let findings = root.join("target/fuzz/findings").join(name);
        for directory in [&kept, &grown, &findings] {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        println!("== {name}");
        let artifacts = format!("-artifact_prefix={}/", findings.display());
        let status = Command::new(program(root, name))
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-max_len={LONGEST}"))
            .args([
                "-timeout=10",
                "-rss_limit_mb=1024",
                "-print_final_stats=1",
                "-verbosity=1",
            ])
            .arg(artifacts)
            .args([&grown, &kept])
            .status()
            .with_context(|| format!("cannot start the target {name}"))?;
        if self.keep && status.success() {
            keep(root, name, &kept, &grown)?;
        }
        Ok(status.success())
    }
}

fn program(root: &Path, name: &str) -> PathBuf {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    root.join("target/fuzz/build")
        .join(target)
        .join("release")
        .join(name)
}

/// Named by its target, so that build scripts and macros are built without the counters.
fn build(root: &Path) -> Result<()> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new("cargo")
        .args(["build", "--release", "--bins", "--manifest-path"])
        .arg(root.join("fuzz/Cargo.toml"))
        .args(["--target", &target, "--target-dir"])
        .arg(root.join("target/fuzz/build"))
        .env("RUSTFLAGS", COVERAGE)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build; libFuzzer needs a C++ compiler");
    }
    Ok(())
}

/// Merges what was found into the smallest corpus with the same coverage.
fn keep(root: &Path, name: &str, kept: &Path, grown: &Path) -> Result<()> {
    let merged = root.join("target/fuzz/merged").join(name);
    let _ = std::fs::remove_dir_all(&merged);
    std::fs::create_dir_all(&merged)?;
    let status = Command::new(program(root, name))
        .args(["-merge=1", "-verbosity=0"])
        .args([&merged, &kept.to_owned(), &grown.to_owned()])
        .status()?;
    if !status.success() {
        bail!("the corpus of {name} cannot be merged");
    }
    std::fs::remove_dir_all(kept)?;
    std::fs::create_dir_all(kept)?;
    for entry in std::fs::read_dir(&merged)? {
        let entry = entry?;
        std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
    }
    Ok(())
}
