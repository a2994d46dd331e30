//! The examples are accepted, and shown they read back as the same cluster.

use hotpair_config::{Severity, check, render, show};
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
    assert!(examples >= 3);
}
