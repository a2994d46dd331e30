//! Agents as they come: sound, broken, hanging, flooding.

use super::*;

const LIMIT: usize = 256 << 10;

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn agent(&self, name: &str, script: &str) -> Agent {
        let agent = Agent {
            provider: "test".into(),
            name: name.into(),
        };
        let path = agent.path(self.0.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Written by another process: a file that is open for writing in a child that another test has
        // just forked cannot be executed.
        let text = format!("#!/bin/sh\n{script}\n");
        let done = std::process::Command::new("/bin/sh")
            .args(["-c", "printf %s \"$1\" >\"$0\" && chmod +x \"$0\""])
            .args([path.as_os_str(), text.as_ref()])
            .status();
        assert!(done.unwrap().success());
        agent
    }

    fn meta_data(&self, script: &str) -> Result<String, OcfError> {
        self.agent("one", script).meta_data(self.0.path(), LIMIT)
    }
}

#[test]
fn meta_data_is_what_the_agent_prints_without_its_logging() {
    let root = Root::new();
    let script = "echo noise >&2; echo \"<$1 $OCF_RESOURCE_PROVIDER:$OCF_RESOURCE_TYPE/>\"";
    assert_eq!(root.meta_data(script).unwrap(), "<meta-data test:one/>\n");
}

#[test]
fn an_agent_without_usable_meta_data_says_what_to_do() {
    let root = Root::new();
    let failed = root.meta_data("exit 3").unwrap_err();
    assert!(failed.to_string().contains("exit code 3"), "{failed}");
    assert!(
        failed.advice().contains("one meta-data"),
        "{}",
        failed.advice()
    );
    let long = root.meta_data("head -c 300000 /dev/zero").unwrap_err();
    assert!(long.to_string().contains("300000 bytes"), "{long}");
    let missing = Agent {
        provider: "test".into(),
        name: "none".into(),
    };
    let missing = missing.meta_data(root.0.path(), LIMIT).unwrap_err();
    assert!(matches!(missing, OcfError::Missing { .. }), "{missing}");
    let agent = root.agent("plain", "");
    let path = agent.path(root.0.path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let plain = agent.meta_data(root.0.path(), LIMIT).unwrap_err();
    assert!(plain.advice().contains("chmod +x"), "{}", plain.advice());
}

#[test]
fn only_programs_are_listed_and_a_missing_directory_is_none() {
    let root = Root::new();
    assert_eq!(list(root.0.path()), []);
    let (b, a) = (root.agent("b", ""), root.agent("a", ""));
    fs::write(root.0.path().join("resource.d/test/README"), "no agent").unwrap();
    fs::write(root.0.path().join("resource.d/file"), "no provider").unwrap();
    assert_eq!(list(root.0.path()), [a, b]);
}

#[test]
fn a_call_carries_what_the_standard_prescribes() {
    let root = Root::new();
    let agent = root.agent("env", "echo $1; env | sort");
    let call = Call {
        agent: &agent,
        action: Action::Monitor {
            interval: Duration::from_secs(10),
            check_level: 20,
        },
        instance: "shop.site",
        node: "north",
        parameters: vec![("port", "80"), ("path", "a b\n$c")],
        timeout: Duration::from_secs(30),
    };
    let env = vec![("OCF_ROOT".to_owned(), "/elsewhere".to_owned())];
    let text = run(
        &call.program(root.0.path(), env, None),
        META_DATA_LIMIT,
        LIMIT,
    )
    .text();
    let own = format!("OCF_ROOT={}", root.0.path().display());
    for line in [
        "monitor",
        &own,
        "OCF_CHECK_LEVEL=20",
        "OCF_RESOURCE_INSTANCE=shop.site",
        "OCF_RESOURCE_PROVIDER=test",
        "OCF_RESOURCE_TYPE=env",
        "OCF_RESKEY_port=80",
        "OCF_RESKEY_path=a b",
        "$c",
        "OCF_RESKEY_CRM_meta_interval=10000",
        "OCF_RESKEY_CRM_meta_timeout=30000",
        "OCF_RESKEY_CRM_meta_on_node=north",
    ] {
        assert!(
            text.lines().any(|one| one == line),
            "{line} is not in {text}"
        );
    }
}

#[test]
fn the_exit_reason_goes_before_the_last_line() {
    let said = |output: &str| reason(output);
    assert_eq!(
        said("x\nocf-exit-reason: no file\nINFO: bye\n").as_deref(),
        Some("no file")
    );
    assert_eq!(said("x\nlast\n\n").as_deref(), Some("last"));
    assert_eq!(said("\n"), None);
    assert_eq!(said("ocf-exit-reason:\n"), None);
}
