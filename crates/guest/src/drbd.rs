//! DRBD 8.4 with protocol C (a write is done when both disks have it) between the guests of a pair.

use crate::error::{GuestError, Result};
use crate::pair::Pair;
use std::time::{Duration, Instant};

/// Its device, on the first guest.
pub const DEVICE: &str = "/dev/drbd0";

const LIMIT: Duration = Duration::from_secs(60);

/// Makes the mirror on both data disks, with metadata at their ends, and makes the first guest
/// primary. What the disks hold counts as equal, so there is no first synchronisation.
pub fn set_up(pair: &Pair) -> Result<()> {
    for (index, guest) in pair.guests.iter().enumerate() {
        let (own, peer) = (Pair::ADDRESSES[index], Pair::ADDRESSES[1 - index]);
        let disk = Pair::DISK;
        guest.run(
            &format!(
                "set -e\nmkdir -p /var/lock /var/lib/drbd /run/lock\n\
                 drbdmeta --force 0 v08 {disk} internal create-md\n\
                 drbdsetup-84 new-resource mirror\n\
                 drbdsetup-84 new-minor mirror 0 0\n\
                 drbdsetup-84 attach 0 {disk} {disk} internal\n\
                 drbdsetup-84 connect mirror ipv4:{own}:7789 ipv4:{peer}:7789 --protocol=C"
            ),
            LIMIT,
        )?;
    }
    let first = &pair.guests[0];
    wait_for(pair, "cs:Connected")?;
    first.run(
        "drbdsetup-84 new-current-uuid --clear-bitmap 0 && drbdsetup-84 primary 0",
        LIMIT,
    )?;
    wait_for(pair, "ds:UpToDate/UpToDate")
}

/// Takes it down on both guests; the data disks are free again.
pub fn take_down(pair: &Pair) -> Result<()> {
    for guest in &pair.guests {
        guest.run("drbdsetup-84 down mirror", LIMIT)?;
    }
    Ok(())
}

fn wait_for(pair: &Pair, state: &str) -> Result<()> {
    let end = Instant::now() + LIMIT;
    let mut last = String::new();
    while Instant::now() < end {
        last = pair.guests[0].run("cat /proc/drbd", LIMIT)?;
        if last.contains(state) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(GuestError::BadOutput {
        program: "DRBD",
        problem: format!("not {state} after {LIMIT:?}: {last}"),
    })
}
