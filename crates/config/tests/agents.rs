//! Resources of OCF agents: what the text says about them, and what the agents themselves do.

use hotpair_config::{
    AgentAnswer, AgentForm, Agents, Finding, Severity, check, check_with, diff, render, show,
};
use hotpair_core::config::{Cluster, ResourceKind};
use std::sync::Arc;
use std::time::Duration;

const TEXT: &str = r#"[cluster]
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

[group.g]
nodes = ["n1", "n2"]

[group.g.ocf.site]
agent = "ocf:heartbeat:site"
parameters = { port = 80, tls = true, config = "/etc/site" }
"#;

const META: &str = r#"<resource-agent name="site">
<parameters>
<parameter name="config" required="1"><shortdesc lang="en">Its file</shortdesc><content type="string"/></parameter>
<parameter name="port"><content type="integer"/></parameter>
<parameter name="tls"><content type="boolean"/></parameter>
<parameter name="pid" required="1"><content type="string" default="/run/site.pid"/></parameter>
</parameters>
<actions><action name="start" timeout="90s"/><action name="stop" timeout="1s"/><action name="monitor" timeout="30"/></actions>
</resource-agent>"#;

struct Installed(AgentAnswer);

impl Agents for Installed {
    fn ask(&self, provider: &str, agent: &str) -> AgentAnswer {
        assert_eq!((provider, agent), ("heartbeat", "site"));
        self.0.clone()
    }
}

fn installed() -> Installed {
    Installed(AgentAnswer::Form(Arc::new(
        AgentForm::read(META, "en").unwrap(),
    )))
}

fn good(text: &str, agents: &dyn Agents) -> Cluster {
    let checked = check_with("t", text, None, agents);
    let checked = checked.unwrap_or_else(|found| panic!("{}", render(&found, "t", text, false)));
    checked.cluster
}

fn findings(text: &str, agents: &dyn Agents) -> Vec<Finding> {
    match check_with("t", text, None, agents) {
        Ok(checked) => checked.warnings,
        Err(findings) => findings,
    }
}

/// Replaces `from` by `to`, and expects a finding at `line:column`; what it advises.
#[track_caller]
fn expect(severity: Severity, from: &str, to: &str, at: (usize, usize), message: &str) -> String {
    assert_eq!(TEXT.matches(from).count(), 1, "{from}");
    let text = TEXT.replace(from, to);
    let found = findings(&text, &installed());
    let all = render(&found, "t", &text, false);
    let it = found.iter().find(|f| f.message.contains(message));
    let it = it.unwrap_or_else(|| panic!("no finding says `{message}`:\n{all}"));
    assert_eq!((it.severity, (it.line, it.column)), (severity, at), "{all}");
    let errors = found.iter().filter(|f| f.severity == Severity::Error);
    assert_eq!(
        errors.count(),
        usize::from(severity == Severity::Error),
        "{all}"
    );
    it.help.clone().unwrap_or_default()
}

#[test]
fn an_agents_own_times_are_the_defaults_where_it_is_installed() {
    let times = |cluster: &Cluster| {
        let resource = &cluster.groups[&"g".into()].resources[&"site".into()];
        let ResourceKind::Ocf(ocf) = &resource.kind else {
            panic!("{resource:?}");
        };
        assert_eq!(ocf.parameters["port"], "80");
        assert_eq!(ocf.parameters["tls"], "true");
        [
            resource.start_timeout,
            resource.stop_timeout,
            ocf.monitor_timeout,
        ]
        .map(|t| t.as_secs())
    };
    assert_eq!(
        times(&good(TEXT, &installed())),
        [90, 5, 30],
        "a second is too short for any stop"
    );
    assert_eq!(
        times(&check("t", TEXT, None).unwrap().cluster),
        [60, 60, 20]
    );
    let given = format!("{TEXT}start_timeout_s = 60\nstop_timeout_s = 7\nmonitor_timeout_s = 40\n");
    assert_eq!(times(&good(&given, &installed())), [60, 7, 40]);
}

#[test]
fn what_is_shown_reads_back_the_same_with_and_without_the_agent() {
    for text in [
        TEXT.to_owned(),
        TEXT.replace("[group.g]", "[group.g]\nungated = false"),
    ] {
        let cluster = good(&text, &installed());
        let shown = show(&cluster);
        assert_eq!(
            check("t", &shown, Some(&cluster)).unwrap().cluster,
            cluster,
            "{shown}"
        );
        assert_eq!(good(&shown, &installed()).groups, cluster.groups);
    }
}

#[test]
fn a_group_of_agents_is_ungated_unless_the_text_says_otherwise() {
    assert!(good(TEXT, &installed()).groups[&"g".into()].ungated);
    let text = TEXT.replace(
        "nodes = [\"n1\", \"n2\"]\n\n[group.g.ocf",
        "nodes = [\"n1\", \"n2\"]\nungated = false\n\n[group.g.ocf",
    );
    assert!(!good(&text, &installed()).groups[&"g".into()].ungated);
    let found = findings(&text, &installed());
    let it = found
        .iter()
        .find(|f| f.message.contains("is not `ungated`"))
        .unwrap();
    assert_eq!(
        (it.severity, it.line, it.column),
        (Severity::Warning, 24, 11)
    );
}

#[test]
fn parameters_are_checked_against_the_agent() {
    let help = expect(
        Severity::Error,
        "port = 80",
        "prt = 80",
        (27, 16),
        "has no parameter `prt`",
    );
    assert_eq!(help, "did you mean `port`?");
    let help = expect(
        Severity::Error,
        "port = 80",
        "colour = 80",
        (27, 16),
        "no parameter `colour`",
    );
    assert!(
        help.contains("hotpair agents show ocf:heartbeat:site"),
        "{help}"
    );
    expect(
        Severity::Error,
        "port = 80",
        "port = \"http\"",
        (27, 23),
        "must be a whole number",
    );
    expect(
        Severity::Error,
        "tls = true",
        "tls = \"so so\"",
        (27, 33),
        "must be true or false",
    );
    let help = expect(
        Severity::Error,
        ", config = \"/etc/site\"",
        "",
        (27, 14),
        "requires the parameter `config`",
    );
    assert_eq!(help, "config: Its file");
    expect(
        Severity::Error,
        "\"/etc/site\"",
        "\"\"",
        (27, 48),
        "is required and empty",
    );
    expect(
        Severity::Error,
        "parameters = { port = 80, tls = true, config = \"/etc/site\" }\n",
        "",
        (25, 14),
        "requires the parameter `config`",
    );
    expect(
        Severity::Advice,
        "agent =",
        "start_timeout_s = 3\nagent =",
        (26, 19),
        "shorter than the 90s",
    );
}

#[test]
fn the_text_itself_is_checked_whether_the_agent_is_there_or_not() {
    expect(
        Severity::Error,
        "ocf:heartbeat:site",
        "heartbeat:site",
        (26, 9),
        "does not name an OCF agent",
    );
    expect(
        Severity::Error,
        "ocf:heartbeat:site",
        "ocf:../x:site",
        (26, 9),
        "does not name an OCF agent",
    );
    expect(
        Severity::Error,
        "ocf:heartbeat:site",
        "ocf:heartbeat:",
        (26, 9),
        "does not name an OCF agent",
    );
    expect(
        Severity::Error,
        "agent = \"ocf:heartbeat:site\"\n",
        "",
        (25, 14),
        "`agent` is missing",
    );
    expect(
        Severity::Error,
        "port = 80",
        "CRM_meta_timeout = 80",
        (27, 16),
        "cannot be the name of a parameter",
    );
    expect(
        Severity::Error,
        "port = 80",
        "\"a b\" = 80",
        (27, 16),
        "cannot be the name of a parameter",
    );
    expect(
        Severity::Error,
        "port = 80",
        "port = [80]",
        (27, 23),
        "must be a string, a number",
    );
    expect(
        Severity::Error,
        "port = 80",
        "port = \"8\\u0000\"",
        (27, 23),
        "zero character",
    );
    let twice = "\n[group.h]\nnodes = [\"n1\"]\n[group.h.ocf.site]\nagent = \"ocf:heartbeat:site\"\nparameters = { port = \"80\", tls = \"true\", config = \"/etc/site\" }\n";
    let text = format!("{TEXT}{twice}");
    let found = findings(&text, &installed());
    assert!(
        found
            .iter()
            .any(|f| f.line == 32 && f.message.contains("two groups share")),
        "{found:?}"
    );
}

#[test]
fn an_agent_that_is_missing_or_broken_is_warned_of() {
    for (answer, message) in [
        (
            AgentAnswer::Missing("install it".into()),
            "is not on this node",
        ),
        (
            AgentAnswer::Broken("install it".into()),
            "does not tell its parameters",
        ),
    ] {
        let found = findings(TEXT, &Installed(answer));
        let it = found.iter().find(|f| f.message.contains(message)).unwrap();
        let place = (
            it.severity,
            it.line,
            it.column,
            it.help.as_deref().unwrap_or_default(),
        );
        assert_eq!(place, (Severity::Warning, 26, 9, "install it"));
    }
}

#[test]
fn a_changed_parameter_restarts_and_a_changed_interval_does_not() {
    let before = good(TEXT, &installed());
    let touched = |from: &str, to: &str| {
        let text = TEXT.replace(from, to);
        let after = check_with("t", &text, Some(&before), &installed())
            .unwrap()
            .cluster;
        let changes = diff(&before, &after);
        assert_eq!(changes.len(), 1, "{changes:?}");
        changes[0].touched.len()
    };
    assert_eq!(touched("port = 80", "port = 81"), 1);
    assert_eq!(touched("agent =", "interval_s = 20\nagent ="), 0);
    assert_eq!(
        good(TEXT, &installed()).groups[&"g".into()].resources[&"site".into()].running_within,
        Duration::from_secs(120)
    );
}
