//! The program as a user runs it, against a daemon that gives scripted answers.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};

const STATUS: &str = include_str!("status.json");

fn status() -> Value {
    json!({ "status": serde_json::from_str::<Value>(STATUS).expect("a fixture") })
}

fn hotpair(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotpair"));
    for name in ["HOTPAIR_ETC", "HOTPAIR_LIB", "HOTPAIR_RUN", "HOTPAIR_LOG"] {
        command.env_remove(name);
    }
    let command = command.arg("--root").arg(root).args(arguments);
    command
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the program runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory with the socket of a daemon that gives `answers`, one to each caller in turn.
struct Daemon {
    root: tempfile::TempDir,
    calls: Receiver<Value>,
}

fn daemon(answers: Vec<String>) -> Daemon {
    let root = tempfile::tempdir().expect("a directory");
    let run = root.path().join("run/hotpair");
    std::fs::create_dir_all(&run).expect("a directory");
    let listener = UnixListener::bind(run.join("api.sock")).expect("a socket");
    let (heard, calls) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((stream, _)) = listener.accept() else {
                return;
            };
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            if stream.read_line(&mut line).is_err() {
                return;
            }
            let _ = heard.send(serde_json::from_str(&line).unwrap_or(Value::Null));
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    Daemon { root, calls }
}

fn answering(answers: &[Value]) -> Daemon {
    daemon(answers.iter().map(|answer| format!("{answer}\n")).collect())
}

fn run(daemon: &Daemon, arguments: &[&str]) -> Output {
    hotpair(daemon.root.path(), arguments)
}

#[test]
fn daemon_that_does_not_run_has_its_own_exit_code_and_hint() {
    let root = tempfile::tempdir().expect("a directory");
    for arguments in [
        &["status"][..],
        &["group", "list"],
        &["disarm"],
        &["token"],
        &["stop"],
    ] {
        let output = hotpair(root.path(), arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(err(&output).contains("the daemon does not run on this node"));
        assert!(err(&output).contains("hint: start it with `systemctl start hotpair`"));
    }
}

#[test]
fn status_on_a_witness_says_where_to_ask() {
    let root = tempfile::tempdir().expect("a directory");
    let enrolled = root.path().join("var/lib/hotpair/witness/00000000000000ff");
    std::fs::create_dir_all(&enrolled).expect("a directory");
    std::fs::write(enrolled.join("keys"), "").expect("a file");
    let output = hotpair(root.path(), &["status"]);
    assert_eq!(output.status.code(), Some(3));
    let text = err(&output);
    assert!(text.contains("this machine is a witness"), "{text}");
    assert!(text.contains("hint: ask on a node"), "{text}");
}

#[test]
fn status_json_has_the_promised_keys() {
    let output = run(&answering(&[status()]), &["status", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let object: Value = serde_json::from_str(&out(&output)).expect("JSON");
    for key in [
        "/cluster/name",
        "/cluster/guarantee",
        "/cluster/guarantee_reason",
        "/witness",
        "/nodes/0/name",
        "/nodes/0/state",
        "/nodes/0/boot_id",
        "/nodes/0/links/0/name",
        "/groups/0/name",
        "/groups/0/state",
        "/groups/0/active_on/0",
        "/groups/0/resources/0/name",
        "/groups/0/nodes/0/name",
        "/groups/0/nodes/0/fit",
        "/groups/0/nodes/0/reason",
    ] {
        assert!(object.pointer(key).is_some(), "{key}");
    }
}

#[test]
fn status_without_leader_is_undecided() {
    let mut view = status();
    view["status"]["leader"] = Value::Null;
    let output = run(&answering(&[view]), &["status"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(out(&output).contains("no leader"));
}

#[test]
fn refusal_and_lost_majority_have_their_exit_codes() {
    let refused = answering(&[json!({ "refused": "it is armed already" })]);
    let output = run(&refused, &["arm"]);
    assert_eq!(
        (output.status.code(), err(&output)),
        (Some(1), "error: it is armed already\n".to_owned())
    );
    let output = run(
        &answering(&[json!({ "undecided": "no majority" })]),
        &["arm"],
    );
    assert_eq!(output.status.code(), Some(4));
    assert!(err(&output).contains("error: no majority"));
}

#[test]
fn daemon_that_hangs_up_or_talks_nonsense_is_told() {
    let output = run(&daemon(vec![String::new()]), &["arm"]);
    assert_eq!(output.status.code(), Some(4));
    for nonsense in [
        "hello\n",
        "{}\n",
        "\u{0}\n",
        "{\"status\":{}}\n",
        "[[[[[[\n",
    ] {
        let output = run(&daemon(vec![nonsense.to_owned()]), &["status"]);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{nonsense:?}: {}",
            err(&output)
        );
        assert!(err(&output).starts_with("error: "));
    }
    let output = run(&answering(&[json!({ "done": "x" })]), &["status"]);
    assert!(err(&output).contains("answered `done`"), "{}", err(&output));
}

#[test]
fn names_become_numbers_and_dry_run_is_passed_on() {
    let daemon = answering(&[status(), json!({ "done": "would move web to node2" })]);
    let output = run(
        &daemon,
        &["group", "switch", "web", "--to", "node2", "--dry-run"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "would be done: would move web to node2\n");
    assert_eq!(
        daemon.calls.recv().expect("a call")["call"],
        json!("status")
    );
    let call = &daemon.calls.recv().expect("a call")["call"]["operate"];
    assert_eq!(call["dry_run"], json!(true));
    assert_eq!(
        call["request"],
        json!({ "GroupSwitch": { "group": "web", "to": 2 } })
    );
}

#[test]
fn unknown_names_are_refused_with_those_that_exist() {
    let output = run(&answering(&[status()]), &["group", "stop", "wep"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "error: there is no group `wep`\nhint: groups: web\n"
    );
    let output = run(&answering(&[status()]), &["node", "drain", "node9"]);
    assert_eq!(
        err(&output),
        "error: there is no node `node9`\nhint: nodes: node1, node2\n"
    );
}

#[test]
fn switchover_is_waited_for_and_its_steps_are_shown() {
    let moment = |state: &str, active: &[&str], epoch: u64| {
        let mut view = status();
        let group = &mut view["status"]["groups"][0];
        group["state"] = json!(state);
        group["active_on"] = json!(active);
        group["epoch"] = json!(epoch);
        group["holder"] = json!(if epoch > 5 { "node2" } else { "node1" });
        view
    };
    let there = moment("running", &["node2"], 6);
    let steps = [
        status(),
        json!({ "done": "web moves" }),
        moment("stopping", &["node1"], 5),
        moment("starting", &["node2"], 6),
        there.clone(),
        there,
    ];
    let output = run(&answering(&steps), &["group", "switch", "web"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "group web runs on node2\n");
    assert!(
        err(&output).contains("web stopping on node1"),
        "{}",
        err(&output)
    );
    assert!(err(&output).contains("web starting on node2"));
}

#[test]
fn switchover_that_went_back_is_unfinished() {
    let mut back = status();
    back["status"]["groups"][0]["epoch"] = json!(7);
    back["status"]["groups"][0]["reason"] = json!("node2 could not start it");
    let output = run(
        &answering(&[status(), json!({ "done": "web moves" }), back]),
        &["group", "switch", "web"],
    );
    assert_eq!(output.status.code(), Some(6));
    assert!(err(&output).contains("went back to where it was: node2 could not start it"));
}

#[test]
fn operators_word_needs_the_name_typed() {
    let daemon = answering(&[status()]);
    let output = run(&daemon, &["node", "down", "node1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("--yes-i-mean node1"));
    let output = run(
        &answering(&[status()]),
        &["node", "down", "node1", "--yes-i-mean", "node2"],
    );
    assert!(err(&output).contains("not confirmed"));
    let daemon = answering(&[status(), json!({ "done": "node1 is taken to be down" })]);
    let output = run(&daemon, &["node", "down", "node1", "--yes-i-mean", "node1"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let _ = daemon.calls.recv();
    let call = daemon.calls.recv().expect("a call");
    assert_eq!(
        call["call"]["operate"]["request"],
        json!({ "NodeIsDown": { "node": 1 } })
    );
}

#[test]
fn stop_waits_until_the_daemon_is_gone() {
    let daemon = answering(&[json!({ "done": "groups are handed over" })]);
    let output = run(&daemon, &["stop"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "the daemon of this node has ended\n");
    assert!(err(&output).contains("groups are handed over"));
    let call = &daemon.calls.recv().expect("a call")["call"];
    assert_eq!(
        call["shutdown"],
        json!({ "leave_services": false, "force": false })
    );
}

#[test]
fn wipe_refuses_while_the_daemon_runs_and_without_confirmation() {
    let daemon = answering(&[]);
    let socket = daemon.root.path().join("run/hotpair/api.sock");
    std::fs::remove_file(&socket).expect("the socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let output = run(&daemon, &["wipe", "--yes-i-mean", "x"]);
    assert!(
        err(&output).contains("the daemon runs on this node"),
        "{}",
        err(&output)
    );
    drop(listener);
    let output = run(&daemon, &["wipe", "--yes-i-mean", "surely not this name"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(daemon.root.path().join("run/hotpair").exists());
}

#[test]
fn broken_configuration_shows_its_findings_and_has_its_exit_code() {
    let root = tempfile::tempdir().expect("a directory");
    let file = root.path().join("bad.toml");
    std::fs::write(&file, "[cluster]\nname = \"c\"\ncolour = 1\n").expect("a file");
    let path = file.to_string_lossy().into_owned();
    let output = hotpair(root.path(), &["config", "check", &path]);
    assert_eq!(output.status.code(), Some(5));
    assert!(out(&output).contains("colour"), "{}", out(&output));
    let output = hotpair(root.path(), &["config", "check", &path, "--json"]);
    let object: Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(object["ok"], json!(false));
    assert_eq!(object["findings"][0]["line"], json!(3));
    std::fs::write(&file, b"\xff\xfe").expect("a file");
    assert_eq!(
        hotpair(root.path(), &["config", "plan", &path])
            .status
            .code(),
        Some(5)
    );
    assert_eq!(
        hotpair(root.path(), &["config", "plan", "/nonexistent"])
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn wrong_command_lines_are_usage_errors_and_never_panic() {
    let root = tempfile::tempdir().expect("a directory");
    for arguments in [
        &["frob"][..],
        &["init"],
        &["init", "--name", "c", "--link", "lan"],
        &["token", "--valid", "1w"],
        &["group"],
        &["maintenance", "on"],
        &["maintenance", "on", "--resource", "r"],
        &["join"],
        &["join", "TOKEN", "--address", "lan=host"],
        &["link", "add", "x"],
        &["config", "rollback", "x"],
        &["group", "start", "web", "--wait", "0"],
    ] {
        let output = hotpair(root.path(), arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            err(&output)
        );
    }
    for arguments in [
        &["join", "\u{1f600}"][..],
        &["join", ""],
        &["witness", "join", "x"],
        &["replay", "/dev/null"],
    ] {
        let output = hotpair(root.path(), arguments);
        assert!(
            matches!(output.status.code(), Some(1 | 5)),
            "{arguments:?}: {}",
            err(&output)
        );
    }
}

#[test]
fn init_shows_what_it_would_write_and_writes_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let arguments = [
        "init",
        "--name",
        "ward3",
        "--node",
        "a",
        "--link",
        "lan=10.0.0.1",
        "--link",
        "x=10.1.0.1",
        "--dry-run",
    ];
    let output = hotpair(root.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(
        out(&output).contains("addresses = { a = \"10.0.0.1\" }"),
        "{}",
        out(&output)
    );
    assert_eq!(
        std::fs::read_dir(root.path())
            .expect("the directory")
            .count(),
        0
    );
}

#[test]
fn lab_understands_the_commands_it_starts_itself_with() {
    let root = tempfile::tempdir().expect("a directory");
    let output = hotpair(root.path(), &["lab", "sample-app", "--help"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let output = Command::new(env!("CARGO_BIN_EXE_hotpair"))
        .args(["guard", "--help"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0));
}

const PAIR: &str = r#"[cluster]
name = "c"
[[node]]
name = "n1"
[[node]]
name = "n2"
[[link]]
name = "lan"
addresses = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[group.web]
nodes = ["n1", "n2"]
"#;

fn pair() -> Value {
    json!({ "config": { "revision": 3, "text": PAIR } })
}

const DATABASE: [&str; 10] = [
    "group",
    "add",
    "db",
    "--template=postgresql",
    "--set=size=10GiB",
    "--set=device=n1:/dev/vg0/db,n2:/dev/sdb1",
    "--set=address=10.0.0.100/24",
    "--set=nics=eth0,eth1",
    "--set=port=5433",
    "--dry-run",
];

#[test]
fn group_of_a_template_is_written_checked_and_applied() {
    let checked = json!({ "config_checked": {
        "ok": true, "rendered": "", "changes": ["group.db: added"] } });
    for arguments in [&DATABASE[..], &DATABASE[..9]] {
        let dry = arguments.len() == 10;
        let daemon = answering(&[pair(), checked.clone()]);
        let output = run(&daemon, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert!(err(&output).contains("needs: on both nodes the packages of PostgreSQL"));
        assert_eq!(
            out(&output).contains("[group.\"db\".mirror.data]"),
            dry,
            "{}",
            out(&output)
        );
        let _show = daemon.calls.recv().expect("a call");
        let call = daemon.calls.recv().expect("a call");
        let apply = call
            .pointer("/call/config_apply")
            .unwrap_or_else(|| panic!("{call}"));
        assert_eq!(apply["dry_run"], json!(dry));
        let text = apply["text"].as_str().expect("a text");
        for part in [
            "[group.web]",
            "device = { n1 = \"/dev/vg0/db\", n2 = \"/dev/sdb1\" }",
            "nics = [\"eth0\", \"eth1\"]",
            "path = \"/srv/db\"",
            "\"5433\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn group_that_is_there_and_values_that_are_missing_are_refused() {
    let mut web = DATABASE;
    web[2] = "web";
    let output = run(&answering(&[pair()]), &web);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("there is a group `web` already"));
    let output = run(&answering(&[pair()]), &DATABASE[..5]);
    assert_eq!(output.status.code(), Some(1));
    let said = err(&output);
    assert!(said.contains("give device=… (partition"), "{said}");
    assert!(
        said.contains("hint: `hotpair template show postgresql`"),
        "{said}"
    );
    let mut wrong = DATABASE;
    wrong[4] = "--set=size=10";
    let output = run(&answering(&[pair()]), &wrong);
    assert_eq!(output.status.code(), Some(5), "{}", err(&output));
    assert!(err(&output).contains("`size` is `10`, which has no unit"));
    let mut unknown = DATABASE;
    unknown[3] = "--template=postgres";
    let output = run(&answering(&[]), &unknown);
    assert!(
        err(&output).contains("hint: templates: mariadb, postgresql"),
        "{}",
        err(&output)
    );
}

#[test]
fn templates_of_the_administrator_stand_beside_those_built_in() {
    let root = tempfile::tempdir().expect("a directory");
    let folder = root.path().join("etc/hotpair/templates");
    std::fs::create_dir_all(&folder).expect("a directory");
    let own = "title = \"mine\"\n[template]\ngroup = '[group.\"{{group}}\"]'\n";
    std::fs::write(folder.join("own.toml"), own).expect("a file");
    let output = hotpair(root.path(), &["template", "list", "--json"]);
    let list: Value = serde_json::from_str(&out(&output)).expect("JSON");
    let names: Vec<_> = (0..3).map(|at| list[at]["name"].clone()).collect();
    assert_eq!(names, ["mariadb", "own", "postgresql"]);
    let output = hotpair(root.path(), &["template", "show", "postgresql"]);
    assert!(out(&output).contains("size"), "{}", out(&output));
    std::fs::write(folder.join("bad.toml"), "title = 3").expect("a file");
    let output = hotpair(root.path(), &["template", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("bad.toml: template bad"),
        "{}",
        err(&output)
    );
}
