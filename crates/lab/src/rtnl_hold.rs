//! Keeps the kernel's rtnl lock busy, as a machine with thousands of interfaces does.
//!
//! Several threads make and remove veth pairs with thousands of queues, each in a scratch
//! namespace of its own. One such operation holds the lock for about a fifth of a second, and the
//! lock is handed out in turn, so any other user of it waits for all threads first: about as long
//! as asked for, up to two seconds. Best effort: between two operations others get their turn.

use crate::clock::now_us;
use crate::error::{LabError, Result};
use crate::netns::Netns;
use crate::rtnl::Rtnl;
use std::time::Duration;

const QUEUES: u32 = 2048;

/// Namespaces and sockets for a hold, made before it begins.
pub struct Hold {
    sockets: Vec<Rtnl>,
    time: Duration,
}

impl Hold {
    /// Prepares to hold for `time`.
    pub fn prepare(time: Duration) -> Result<Self> {
        let threads = (time.as_millis() / 250).clamp(2, 8);
        let sockets: Result<_> = (0..threads)
            .map(|_| Netns::create()?.within(Rtnl::open))
            .collect();
        Ok(Self {
            sockets: sockets?,
            time,
        })
    }

    /// Starts holding and returns; it ends by itself, or with the keeper.
    pub fn start(self) -> Result<()> {
        let end_us = now_us() + u64::try_from(self.time.as_micros()).unwrap_or(0);
        for rtnl in self.sockets {
            std::thread::Builder::new()
                .spawn(move || hold(&rtnl, end_us))
                .map_err(|e| LabError::system("start a thread", e))?;
        }
        Ok(())
    }
}

fn hold(rtnl: &Rtnl, end_us: u64) {
    while now_us() < end_us {
        let made = rtnl.add_pair(["hold0", "hold1"], QUEUES);
        if made.is_err() || rtnl.remove_links(&["hold0".to_owned()]).is_err() {
            return;
        }
    }
}
