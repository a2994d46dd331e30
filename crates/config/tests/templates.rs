//! Group templates: each makes a group that the check accepts; values cannot break out of their place.

use hotpair_config::{GroupTemplate, Severity, TemplateError, built_in_templates, check, render};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CLUSTER: &str = r#"[cluster]
name = "c"
[[node]]
name = "n1"
[[node]]
name = "n2"
[[link]]
name = "lan"
addresses = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[[link]]
name = "direct"
addresses = { n1 = "10.0.1.1", n2 = "10.0.1.2" }
[witness]
name = "w"
addresses = ["10.0.0.9"]
"#;

fn nodes() -> Vec<String> {
    vec!["n1".into(), "n2".into()]
}

fn given(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    values.iter().map(owned).collect()
}

const DATABASE: [(&str, &str); 4] = [
    ("size", "10GiB"),
    ("device", "n1:/dev/vg0/db,n2:/dev/sdb1"),
    ("address", "10.0.0.100/24"),
    ("nics", "eth0, eth1"),
];

fn template(name: &str) -> GroupTemplate {
    let mut all = built_in_templates().into_iter();
    all.find(|template| template.name == name).unwrap()
}

#[test]
fn every_template_in_the_folder_is_built_in_and_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .inspect(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            GroupTemplate::read("x", &text).unwrap();
        })
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let names: Vec<_> = built_in_templates().into_iter().map(|t| t.name).collect();
    assert_eq!(names, files);
    assert!(names.len() >= 2);
}

#[test]
fn each_database_makes_a_group_that_is_accepted_without_a_warning() {
    for name in ["postgresql", "mariadb"] {
        let text = template(name)
            .fill("db.1", &nodes(), &given(&DATABASE))
            .unwrap();
        let text = format!("{CLUSTER}{text}");
        let checked = check("t", &text, None)
            .unwrap_or_else(|findings| panic!("{}", render(&findings, "t", &text, false)));
        for finding in &checked.warnings {
            assert_eq!(finding.severity, Severity::Advice, "{finding:?}");
        }
        let group = &checked.cluster.groups[&"db.1".into()];
        assert_eq!(group.resources.len(), 5);
        assert!(text.contains("nics = [\"eth0\", \"eth1\"]"), "{text}");
        assert!(text.contains("path = \"/srv/db.1\""), "{text}");
    }
}

#[test]
fn what_is_missing_or_unknown_is_named_with_its_help() {
    let template = template("postgresql");
    let error = template
        .fill("db", &nodes(), &given(&[("size", "1GiB")]))
        .unwrap_err();
    let TemplateError::Missing(missing) = &error else {
        panic!("{error}");
    };
    assert_eq!(missing.len(), 3, "{missing:?}");
    assert!(missing[0].starts_with("device=… (partition"), "{missing:?}");
    let error = template
        .fill("db", &nodes(), &given(&[("adress", "x")]))
        .unwrap_err();
    assert!(
        error.to_string().contains("did you mean `address`?"),
        "{error}"
    );
    for (name, value) in [
        ("port", "x"),
        ("nics", "a,,b"),
        ("device", "sdb"),
        ("user", "a\nb"),
    ] {
        let mut values = given(&DATABASE);
        values.insert(name.into(), value.into());
        let error = template.fill("db", &nodes(), &values).unwrap_err();
        assert!(
            matches!(error, TemplateError::Value { .. }),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_broken_template_says_what_is_wrong() {
    let group = |text: &str| format!("title = \"t\"\n[template]\ngroup = '''{text}'''");
    let said = |text: &str| GroupTemplate::read("mine", text).unwrap_err().to_string();
    assert!(said("title = 3").contains("template mine: "));
    assert!(said(&group("{{a}}")).contains("names `a`, which is no parameter"));
    assert!(said(&group("{{group")).contains("without its `}}`"));
    assert!(said(&group("{{group|upper}}")).contains("unknown filter"));
    let late = "title = \"t\"\n[[parameter]]\nname = \"a\"\nhelp = \"\"\ndefault = \"{{b}}\"\n\
        [[parameter]]\nname = \"b\"\nhelp = \"\"\n[template]\ngroup = ''";
    assert!(said(late).contains("does not stand before it"));
    assert!(said(&"x".repeat(70_000)).contains("longer than"));
}

proptest! {
    #[test]
    fn no_value_leaves_its_place(
        size in any::<String>(),
        device in any::<String>(),
        nics in any::<String>(),
        path in ".*",
    ) {
        let mut values = given(&DATABASE);
        values.insert("size".into(), size.clone());
        values.insert("device".into(), device);
        values.insert("nics".into(), nics);
        values.insert("path".into(), path);
        if let Ok(text) = template("postgresql").fill("db", &nodes(), &values) {
            // It is TOML with the values where they belong, and nothing else.
            let table: toml::Table = toml::from_str(&text).unwrap();
            let group = table["group"]["db"].as_table().unwrap();
            prop_assert_eq!(group.len(), 6);
            prop_assert_eq!(group["mirror"]["data"]["size"].as_str(), Some(size.as_str()));
        }
    }
}
