//! Keeps the kernel's rtnl lock busy, as a machine with thousands of interfaces does.
//!
//! A scratch namespace gets a few hundred dummy links, which are then removed as one group: one
//! operation under the lock. Two threads take turns, so that one makes links while the other
//! removes. Best effort: other users of the lock get in between two operations.

use crate::clock::now_us;
use crate::error::Result;
use crate::netns::Netns;
use crate::rtnl::Rtnl;
use std::time::Duration;

const LINKS: u32 = 200;

/// Starts holding and returns; it ends by itself after `time`, or with the keeper.
pub fn start(time: Duration) -> Result<()> {
    let end_us = now_us() + u64::try_from(time.as_micros()).unwrap_or(0);
    for _ in 0..2 {
        let rtnl = Netns::create()?.within(Rtnl::open)?;
        std::thread::spawn(move || hold(&rtnl, end_us));
    }
    Ok(())
}

fn hold(rtnl: &Rtnl, end_us: u64) {
    const GROUP: u32 = 77;
    while now_us() < end_us {
        let made = (0..LINKS).take_while(|i| {
            now_us() < end_us && rtnl.add_dummy(&format!("hold{i}"), GROUP).is_ok()
        });
        if made.count() == 0 || rtnl.remove_group(GROUP).is_err() {
            return;
        }
    }
}
