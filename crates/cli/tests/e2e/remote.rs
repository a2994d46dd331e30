//! Setting machines up over SSH: a real server on every host of the lab.

use crate::cluster::Cluster;
use hotpair_lab::{Plan, Shape};

/// What is given to every command, so that nothing of the machine's own user is touched.
const SSH: [&str; 6] = [
    "--identity",
    "/run/key",
    "--ssh-option",
    "UserKnownHostsFile=/run/known",
    "--install-to",
    "/run/opt/hotpair",
];

fn add<'a>(who: &'a str, target: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[who, "add", target], &SSH[..], more].concat()
}

/// A server of SSH that lets the key of node1 in. What is started through it knows nothing of the lab's places:
/// the logs of the machine below are not its.
fn serve(cluster: &Cluster, host: &str, key: &str) {
    cluster.shell(
        host,
        &format!(
            "mountpoint -q /var/log || mount -t tmpfs none /var/log; mkdir -p /run/sshd && rm -f /run/host_key* && ssh-keygen -q -t ed25519 -N '' -f /run/host_key && echo '{}' >/run/authorized"
            , key.trim()
        ),
    );
    cluster.shell(
        host,
        "/usr/sbin/sshd -f /dev/null -h /run/host_key -o StrictModes=no -o UsePAM=no \
         -o AuthorizedKeysFile=/run/authorized -o PasswordAuthentication=no -o PidFile=/run/sshd.pid \
         -E /run/sshd.log",
    );
}

#[test]
fn machines_are_set_up_over_ssh_and_a_run_that_broke_off_is_gone_on_with() {
    let Some(cluster) = Cluster::planned("ssh", &Plan::bare(Shape::default()).expect("a plan"))
    else {
        return;
    };
    cluster.hotpair(
        "node1",
        &[
            "init",
            "--name",
            "site",
            "--node",
            "node1",
            "--link",
            "lan=10.77.1.11",
        ],
    );
    cluster.shell(
        "node1",
        "setsid hotpair daemon >/run/lab/d.log 2>&1 </dev/null &",
    );
    cluster.until("node1", "itself leading", |s| s.leader.is_some());
    let key = cluster.shell(
        "node1",
        "ssh-keygen -q -t ed25519 -N '' -f /run/key && cat /run/key.pub",
    );
    for host in ["node2", "witness"] {
        serve(&cluster, host, &key);
    }
    let (node, witness) = ("root@10.77.1.12", "root@10.77.1.9");

    let text = cluster.refused("node1", &add("node", node, &[]), 1);
    assert!(text.contains("--accept-new-host-key"), "{text}");
    let new = ["--accept-new-host-key"];
    let text = cluster.refused("node1", &add("node", "root@10.77.1.100", &new), 1);
    assert!(text.contains("cannot log in"), "{text}");

    // No room there: said, and nothing half is left.
    cluster.shell(
        "node2",
        "mkdir -p /run/opt && mount -t tmpfs -o size=256k none /run/opt",
    );
    let text = cluster.refused("node1", &add("node", node, &new), 1);
    assert!(text.contains("KiB are free"), "{text}");
    assert_eq!(cluster.run("node2", &["ls", "/run/opt"]), "");
    cluster.shell("node2", "umount /run/opt");

    // It broke off when half of the program was there, and again when the node had joined.
    cluster.shell("node2", "echo half >/run/opt/hotpair.new");
    let dry = cluster.hotpair(
        "node1",
        &add("node", node, &["--name", "node2", "--dry-run"]),
    );
    assert!(
        dry.contains("copy hotpair") && dry.contains("node `node2`"),
        "{dry}"
    );
    let token = cluster.hotpair("node1", &["token"]);
    cluster.shell(
        "node2",
        &format!("echo {token} | hotpair join - --name node2"),
    );
    let said = cluster.hotpair("node1", &add("node", node, &["--name", "node2"]));
    assert!(said.contains("node `node2` and online"), "{said}");
    cluster.hotpair("node1", &add("witness", witness, &new));
    cluster.until("node1", "all three voting", |status| {
        status.witness.as_ref().is_some_and(|witness| witness.votes)
            && status
                .nodes
                .iter()
                .all(|node| node.votes && node.state == "online")
    });

    // All is done: nothing is done again.
    let daemon = cluster.shell("node2", "cat /run/hotpair.pid");
    cluster.hotpair("node1", &add("node", node, &["--name", "node2"]));
    cluster.hotpair("node1", &add("witness", witness, &[]));
    assert_eq!(cluster.shell("node2", "cat /run/hotpair.pid"), daemon);
    let text = cluster.refused("node1", &add("node", witness, &["--name", "node2"]), 1);
    assert!(text.contains("not this machine"), "{text}");
    let text = cluster.refused("node1", &add("node", node, &["--name", "other"]), 1);
    assert!(text.contains("another cluster"), "{text}");

    // Somebody in between, or nobody's key.
    cluster.shell("node2", "kill $(cat /run/sshd.pid)");
    serve(&cluster, "node2", "");
    let text = cluster.refused("node1", &add("node", node, &new), 1);
    assert!(
        text.contains("has changed") && text.contains("ssh-keygen -R"),
        "{text}"
    );
    cluster.shell("node1", "rm /run/known");
    let text = cluster.refused("node1", &add("node", node, &new), 1);
    assert!(text.contains("ssh-copy-id"), "{text}");
}
