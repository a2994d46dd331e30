//! keepalived (VRRP): the application runs on both nodes, the address on one.

use super::{Bed, NODES};
use anyhow::Result;
use hotpair_lab::plan::{APP_PORT, VIRTUAL_IP};

pub const STATED: &str = "keepalived: VRRP version 2, `advert_int` 1 (its default), on one link; both nodes \
    BACKUP with `nopreempt`, priorities 100 and 90; a script every second (`fall` 1) looks for the \
    application, which runs on both nodes; a planned move is keepalived's own orderly stop";

pub const STATED_QUICK: &str =
    "keepalived 0.1 s: the same with VRRP version 3 and `advert_int` 0.1";

pub fn set_up(bed: &Bed) -> Result<()> {
    let quick = if bed.variant.quick {
        "vrrp_version 3"
    } else {
        ""
    };
    let advert = if bed.variant.quick { "0.1" } else { "1" };
    for (node, priority) in NODES.into_iter().zip([100, 90]) {
        let configuration = format!(
            r#"global_defs {{
    {quick}
    script_user root
    enable_script_security

}}
vrrp_script application {{
    script "/usr/bin/pgrep -f sample-app"
    interval 1
    timeout 1
    fall 1
    rise 1
}}
vrrp_instance practice {{
    state BACKUP
    nopreempt
    interface eth0
    virtual_router_id 50
    priority {priority}
    advert_int {advert}
    virtual_ipaddress {{
        {VIRTUAL_IP}/24
    }}
    track_script {{
        application
    }}
}}"#
        );
        bed.write(node, "/etc/keepalived/keepalived.conf", &configuration)?;
        // It listens on the address before this node has it.
        let application = format!(
            "sysctl -qw net.ipv4.ip_nonlocal_bind=1; exec hotpair lab sample-app --listen {VIRTUAL_IP}:{APP_PORT}"
        );
        bed.service(node, "app", &application, None)?;
        bed.service(
            node,
            "keepalived",
            "exec keepalived --dont-fork --log-console",
            Some(3000),
        )?;
    }
    Ok(())
}

pub fn is_well(bed: &Bed) -> bool {
    let both = "pgrep -x keepalived >/dev/null && pgrep -f '[s]ample-app' >/dev/null";
    NODES.iter().all(|node| bed.shell(node, both).is_ok())
}

pub fn switch(bed: &Bed, active: &str) -> Result<()> {
    bed.shell(active, "kill -TERM $(pgrep -o -x keepalived)")?;
    Ok(())
}
