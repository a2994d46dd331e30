//! Golden scenarios: each file of `tests/golden` is a script and what the planner says to it.
//!
//! `GOLDEN=rewrite cargo test -p hotpair-core --test golden` writes what it says now.
//!
//! ```text
//! cluster: what is configured                   nodes node1 node2; witness w
//! group NAME: nodes node1 node2; failback 30s; resources ip site>ip
//! node NODE online|silent MS|down MS|unheard|reboots
//! report NODE GROUP STATE [epoch N] [version V] [pinned]    STATE: running, stopped, failed TEXT, …
//! unfit NODE GROUP TEXT      fit NODE GROUP     fit-for NODE GROUP SECONDS    failures NODE N
//! deciding MS                obey               place GROUP NODE
//! ask REQUEST                simulate FAULT     plan            run
//! ---
//! expected
//! ```

mod scenario;

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn scenarios() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("the folder of scenarios is readable");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("its entries are readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_scenario_ends_as_written() {
    let rewrite = std::env::var("GOLDEN").is_ok_and(|value| value == "rewrite");
    let mut wrong = Vec::new();
    for path in scenarios() {
        let text = fs::read_to_string(&path).expect("the scenario is readable");
        let (script, expected) = text.split_once("\n---\n").unwrap_or((text.trim_end(), ""));
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let said = match scenario::run(script) {
            Ok(said) => said,
            Err(problem) => {
                wrong.push(format!("{name}: {problem}"));
                continue;
            }
        };
        if said == expected {
            continue;
        }
        if rewrite {
            let text = format!("{script}\n---\n{said}");
            fs::write(&path, text).expect("the scenario is writable");
        } else {
            wrong.push(format!("{name}:\n--- expected\n{expected}--- said\n{said}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} scenarios differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn there_are_at_least_eighty_scenarios() {
    assert!(scenarios().len() >= 80, "only {}", scenarios().len());
}
