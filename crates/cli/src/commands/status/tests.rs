use super::*;

fn fixture() -> StatusView {
    serde_json::from_str(include_str!("../../../tests/status.json"))
        .expect("the fixture is a status")
}

const TEXT: &str = "\
cluster ward3, revision 3
guarantee single-active: two nodes and a witness vote
leader node1, term 4
told by node2, which holds a lease; document 4.17

nodes
  node1  online   leader
    lan     10.77.1.11:14338  up  0.23 ms
    direct  10.77.2.11:14338  warning  12 % lost
  node2  online   this node, drained
    lan  10.77.1.12:14338  own

witness
  witness  online  votes

groups
  web  running on node1
    stays on node1: it runs there
    started for the first time
    ip    address  running  10.77.1.100/24 on eth0
    site  service  running  1 restart
    node1  active
    node2  unfit    it is drained
";

#[test]
fn status_tells_the_whole_cluster() {
    assert_eq!(text(&fixture(), Ink::default()), TEXT);
}

#[test]
fn without_colours_there_are_no_escapes_and_with_them_the_same_words() {
    let coloured = text(&fixture(), Ink { on: true });
    assert!(coloured.contains("\u{1b}[32mrunning\u{1b}[0m"));
    let mut bare = String::new();
    for (number, part) in coloured.split("\u{1b}[").enumerate() {
        bare.push_str(if number == 0 {
            part
        } else {
            part.split_once('m').map_or("", |(_, rest)| rest)
        });
    }
    assert_eq!(bare, TEXT);
}

#[test]
fn missing_leader_witness_and_lease_are_told() {
    let mut status = fixture();
    status.leader = None;
    status.witness = None;
    status.lease = false;
    status.disarmed = true;
    status.groups.clear();
    let text = text(&status, Ink::default());
    for told in [
        "no leader, term 4",
        "no witness",
        "no lease",
        "hotpair arm",
        "hotpair config apply FILE",
    ] {
        assert!(text.contains(told), "{told} in {text}");
    }
}

#[test]
fn text_of_programs_cannot_command_the_terminal() {
    let mut status = fixture();
    status.groups[0].resources[0].detail = "\u{1b}]0;owned\u{7}".into();
    assert!(!text(&status, Ink::default()).contains('\u{1b}'));
}

#[test]
fn resources_stopped_by_the_operator_are_told() {
    let mut status = fixture();
    status.groups[0].stopped_resources = vec!["site".into()];
    let told = text(&status, Ink::default());
    assert!(
        told.contains("web  running on node1, stopped by the operator: site\n"),
        "{told}"
    );
}
