//! The examples are accepted, and shown they read back as the same cluster.

use hotpair_config::{Severity, check, expected_failover, render, show};
use hotpair_core::config::Timing;
use std::path::Path;

#[test]
fn accepts_every_example_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut examples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        examples += 1;
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let checked = check(&name, &text, None)
            .unwrap_or_else(|findings| panic!("{}", render(&findings, &name, &text, false)));
        for finding in &checked.warnings {
            assert_eq!(finding.severity, Severity::Advice, "{name}: {finding:?}");
        }
        let shown = show(&checked.cluster);
        let again = check(&name, &shown, None).unwrap();
        assert_eq!(again.cluster, checked.cluster, "{shown}");
    }
    assert!(examples >= 5);
}

/// Every block of TOML in the reference is accepted, and the reference knows the profiles' numbers.
#[test]
fn the_reference_agrees_with_the_check() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let blocks: Vec<_> = text.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let block = block.split("```").next().unwrap();
        let checked = check("reference", block, None);
        assert!(checked.is_ok(), "{checked:?}");
    }
    let times = [
        Timing::fast(),
        Timing::standard(),
        Timing::wan(),
        Timing::classic(),
    ]
    .map(|timing| {
        format!(
            "{} s",
            (expected_failover(&timing).as_secs_f64() * 100.0).round() / 100.0
        )
    });
    let row = format!("| longest time to a takeover | | {} |", times.join(" | "));
    assert!(text.contains(&row), "{row}");
}
