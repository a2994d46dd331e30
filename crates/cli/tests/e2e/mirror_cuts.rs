//! Work on a mirror that is cut off in the middle.

use crate::mirrors::{mirror, pair, until_copy, write};
use hotpair_lab::Fault;

#[test]
fn verification_that_is_cut_off_has_no_result() {
    let Some(cluster) = pair("cut-verify") else {
        return;
    };
    // The result of an earlier one is not taken for that of the next.
    cluster.hotpair("node1", &["mirror", "verify", "data"]);
    cluster.hotpair("node1", &["mirror", "rate", "data", "1MiB"]);
    cluster.hotpair("node1", &["mirror", "verify", "data", "--no-wait"]);
    let numbers = || mirror(&cluster, "node1").and_then(|view| view.here);
    cluster.wait_for("it is under way", || {
        numbers().is_some_and(|here| here.verify.is_some())
    });
    cluster.fault("node2", Fault::PowerCut);
    write(&cluster, "node1", "a", "while node2 was away");
    until_copy(&cluster, "node1", "node2", "outdated");
    cluster.wait_for("it has ended", || {
        numbers().is_some_and(|here| here.verify.is_none())
    });
    let found = numbers().and_then(|here| here.verify_found);
    assert_eq!(found, None, "no copy was found equal, nor different");
}
