//! The gate's tables as text, and the run of `nft` that loads them.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::GateError;

/// A run of `nft` takes some 10 ms; beyond this it hangs.
const NFT_TIMEOUT: Duration = Duration::from_secs(10);

/// Before connection tracking and address translation (raw is -300).
const EARLY: i32 = -350;
/// After address translation (source translation is 100).
const LATE: i32 = 350;

/// Refuses names that are none or that nft would read otherwise.
pub(super) fn check_name(name: &str) -> Result<(), GateError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts && name.len() <= 31 && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(GateError::BadName(name.to_owned()))
    }
}

/// Makes the tables, if they are not there.
pub(super) fn tables_script(name: &str) -> String {
    format!("add table inet {name}\nadd table arp {name}\n")
}

/// One nft transaction that fills or mends the gate in its tables, and keeps permissions.
///
/// It does not name the tables themselves: nft would set their flags.
pub(super) fn install_script(name: &str, managed: &BTreeSet<IpAddr>) -> String {
    let mut script = String::new();
    for (family, set, kind) in [
        ("inet", "managed4", "type ipv4_addr;"),
        ("inet", "managed6", "type ipv6_addr;"),
        ("inet", "permitted4", "type ipv4_addr; flags timeout;"),
        ("inet", "permitted6", "type ipv6_addr; flags timeout;"),
        ("arp", "managed4", "type ipv4_addr;"),
        ("arp", "permitted4", "type ipv4_addr; flags timeout;"),
    ] {
        script.push_str(&format!("add set {family} {name} {set} {{ {kind} }}\n"));
    }
    for (family, chain, priority) in [
        ("inet", "prerouting", EARLY),
        ("inet", "output", EARLY),
        ("inet", "postrouting", LATE),
        ("arp", "input", EARLY),
        ("arp", "output", EARLY),
    ] {
        script.push_str(&format!(
            "add chain {family} {name} {chain} {{ type filter hook {chain} priority {priority}; policy accept; }}\n"
        ));
    }
    for family in ["inet", "arp"] {
        script.push_str(&format!("flush table {family} {name}\n"));
    }
    for (family, set) in [
        ("inet", "managed4"),
        ("inet", "managed6"),
        ("arp", "managed4"),
    ] {
        script.push_str(&format!("flush set {family} {name} {set}\n"));
    }
    for (family, chain, rule) in RULES {
        script.push_str(&format!("add rule {family} {name} {chain} {rule} drop\n"));
    }
    for address in managed {
        let places: &[&str] = match address {
            IpAddr::V4(_) => &["inet", "arp"],
            IpAddr::V6(_) => &["inet"],
        };
        let version = if address.is_ipv4() { 4 } else { 6 };
        for family in places {
            let set = format!("{family} {name} managed{version}");
            script.push_str(&format!("add element {set} {{ {address} }}\n"));
        }
    }
    script
}

/// What is dropped, as family, chain and condition.
///
/// `fib … local` lets pass what this host only forwards to or for another
/// holder; after IPv6 routing it does not see a translated source, so there
/// the rule goes without. The ARP input rule lets announcements of another holder pass.
const RULES: [(&str, &str, &str); 8] = [
    (
        "inet",
        "prerouting",
        "ip daddr @managed4 ip daddr != @permitted4 fib daddr type local",
    ),
    (
        "inet",
        "prerouting",
        "ip6 daddr @managed6 ip6 daddr != @permitted6 fib daddr type local",
    ),
    (
        "inet",
        "output",
        "ip saddr @managed4 ip saddr != @permitted4",
    ),
    (
        "inet",
        "output",
        "ip6 saddr @managed6 ip6 saddr != @permitted6",
    ),
    (
        "inet",
        "postrouting",
        "ip saddr @managed4 ip saddr != @permitted4 fib saddr type local",
    ),
    (
        "inet",
        "postrouting",
        "ip6 saddr @managed6 ip6 saddr != @permitted6",
    ),
    (
        "arp",
        "input",
        "arp saddr ip != @managed4 arp daddr ip @managed4 arp daddr ip != @permitted4",
    ),
    (
        "arp",
        "output",
        "arp saddr ip @managed4 arp saddr ip != @permitted4",
    ),
];

/// Has `nft` load a script in one transaction.
pub(super) fn run_nft(name: &str, script: &str) -> Result<(), GateError> {
    let mut child = start_nft()?;
    let written = match child.stdin.take() {
        Some(mut input) => input.write_all(script.as_bytes()),
        None => Ok(()),
    };
    let success = wait(&mut child)?;
    let mut output = String::new();
    if let Some(errors) = child.stderr.take() {
        let read = errors.take(4096).read_to_string(&mut output);
        read.map_err(GateError::RunNft)?;
    }
    if success {
        return written.map_err(GateError::RunNft);
    }
    Err(GateError::NftRefused {
        name: name.to_owned(),
        output: output.trim().to_owned(),
    })
}

/// Starts `nft` from PATH, or from where packages put it.
fn start_nft() -> Result<Child, GateError> {
    for program in ["nft", "/usr/sbin/nft"] {
        let started = Command::new(program)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        match started {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map_err(GateError::RunNft),
        }
    }
    Err(GateError::NftMissing)
}

fn wait(child: &mut Child) -> Result<bool, GateError> {
    let deadline = Instant::now() + NFT_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().map_err(GateError::RunNft)? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            child.kill().map_err(GateError::RunNft)?;
            child.wait().map_err(GateError::RunNft)?;
            return Err(GateError::NftHangs(NFT_TIMEOUT));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_names_that_could_end_the_script() {
        for name in [
            "",
            "1a",
            "a b",
            "a;flush ruleset",
            "a{",
            "ä",
            &"a".repeat(32),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("hotpair_node1").is_ok());
    }
}
