//! Corosync and Pacemaker: two nodes, two links, no fencing, address and application as a group.

use super::{Bed, NODES};
use anyhow::{Result, bail};
use hotpair_lab::plan::{APP_PORT, VIRTUAL_IP};
use std::time::{Duration, Instant};

pub const STATED: &str = "Pacemaker: Corosync over two links (knet, no encryption), its default token (3 s), \
    `two_node`; no fencing, stickiness 100, a group of `IPaddr2` and an LSB script for the application, \
    each monitored every 10 s; a planned move is `crm_resource --move`";

pub const STATED_QUICK: &str =
    "Pacemaker 300 ms: the same with `token: 300` and monitors every second";

/// Loopback names in shared memory are by process id, which hosts of a lab have in common.
const RUN: &str = "mount -t tmpfs shm /dev/shm\n\
    corosync -f &\n\
    export PCMK_logfile=/run/pacemaker.log PCMK_logfacility=none\n\
    for i in $(seq 200); do corosync-cmapctl -b runtime.members. 2>/dev/null | grep -q joined && break; sleep 0.05; done\n\
    pacemakerd -f &\n\
    wait";

pub fn set_up(bed: &Bed) -> Result<()> {
    let token = if bed.variant.quick { "token: 300" } else { "" };
    let node = |number: u8| {
        format!(
            "node {{\n ring0_addr: 10.77.1.1{number}\n ring1_addr: 10.77.2.1{number}\n name: node{number}\n nodeid: {number}\n }}"
        )
    };
    let corosync = format!(
        "totem {{\n version: 2\n cluster_name: bench\n transport: knet\n crypto_cipher: none\n crypto_hash: none\n {token}\n}}\n\
         nodelist {{\n {}\n {}\n}}\n\
         quorum {{\n provider: corosync_votequorum\n two_node: 1\n wait_for_all: 0\n}}\n\
         system {{\n move_to_root_cgroup: no\n}}\n\
         logging {{\n to_stderr: yes\n to_syslog: no\n to_logfile: no\n}}\n",
        node(1),
        node(2)
    );
    let script = format!(
        r#"#!/bin/sh
### BEGIN INIT INFO
# Provides: sample
# Required-Start:
# Required-Stop:
# Default-Start: 2
# Default-Stop: 0
# Short-Description: sample application
### END INIT INFO
alive() {{ [ -e /run/sample.pid ] && kill -0 "$(cat /run/sample.pid)" 2>/dev/null; }}
case $1 in
start)
    alive && exit 0
    setsid /run/bin/hotpair lab sample-app --listen {VIRTUAL_IP}:{APP_PORT} </dev/null >/dev/null 2>&1 &
    echo $! >/run/sample.pid
    ;;
stop)
    alive && kill -KILL "$(cat /run/sample.pid)"
    rm -f /run/sample.pid
    ;;
status) alive || exit 3 ;;
esac"#
    );
    for node in NODES {
        bed.write(node, "/etc/corosync/corosync.conf", &corosync)?;
        bed.write(node, "/etc/init.d/sample", &script)?;
        bed.shell(node, "chmod 755 /etc/init.d/sample")?;
        bed.service(node, "pacemaker", RUN, Some(1000))?;
    }
    // The first election waits for 20 s.
    let end = Instant::now() + Duration::from_secs(90);
    while !is_online(bed) {
        if Instant::now() > end {
            bail!("Pacemaker does not come up within 90 s");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    bed.shell(
        "node1",
        &resources(if bed.variant.quick { "1s" } else { "10s" }),
    )?;
    Ok(())
}

fn resources(monitor: &str) -> String {
    format!(
        r#"set -e
crm_attribute -t crm_config -n stonith-enabled -v false
crm_attribute -t rsc_defaults -n resource-stickiness -v 100
cibadmin -C -o resources -X '<group id="practice">
<primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2">
<instance_attributes id="ip-a"><nvpair id="ip-1" name="ip" value="{VIRTUAL_IP}"/><nvpair id="ip-2" name="cidr_netmask" value="24"/><nvpair id="ip-3" name="nic" value="eth0"/></instance_attributes>
<operations><op id="ip-m" name="monitor" interval="{monitor}" timeout="20s"/></operations></primitive>
<primitive id="app" class="lsb" type="sample"><operations><op id="app-m" name="monitor" interval="{monitor}" timeout="15s"/></operations></primitive></group>'"#
    )
}

fn is_online(bed: &Bed) -> bool {
    let ask = "crm_mon -1 --output-as=xml";
    bed.shell("node1", ask).is_ok_and(|text| {
        let online =
            |line: &&str| line.contains("online=\"true\"") && line.contains("pending=\"false\"");
        text.lines().filter(online).count() == 2
    })
}

pub fn is_well(bed: &Bed) -> bool {
    let ask = "crm_mon -1 --output-as=xml";
    is_online(bed)
        && bed.shell("node1", ask).is_ok_and(|text| {
            let started = |line: &&str| {
                line.contains("resource id=\"app\"")
                    && line.contains("role=\"Started\"")
                    && line.contains("failed=\"false\"")
            };
            text.lines().filter(started).count() == 1
        })
}

pub fn switch(bed: &Bed, standby: &str) -> Result<()> {
    bed.shell(
        standby,
        &format!("crm_resource --move --resource practice --node {standby}"),
    )?;
    Ok(())
}

/// Forgets failures and what a planned move left, so that the next run begins as the first.
pub fn forgive(bed: &Bed) {
    // On a node that has just booted there is nobody to ask yet; the other one answers.
    for node in NODES {
        let _ = bed.shell(
            node,
            "crm_resource --clear --resource practice; crm_resource --cleanup",
        );
    }
}
