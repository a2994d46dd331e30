//! Hears changes of NICs and addresses, and has them acted upon at once.

use super::Shared;
use hotpair_core::config::ResourceKind;
use hotpair_core::group::ResourceFact;
use hotpair_host::net::netlink::{Event, Monitor};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Pause after the kernel refused to tell of changes.
const PAUSE: Duration = Duration::from_secs(1);

/// Ends the thread that hears changes.
pub(super) struct Hangup(OwnedFd);

impl Hangup {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    pub(super) fn close(&self) {
        // Fails only when it was closed 2^64 times before.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// Hears changes until hung up.
pub(super) fn run(shared: &Arc<Shared>, mut monitor: Monitor) {
    let hangup = shared.hangup.0.as_fd();
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(hangup, PollFlags::IN),
            PollFd::new(&monitor, PollFlags::IN),
        ];
        let waited = poll(&mut fds, None);
        if !fds[0].revents().is_empty() {
            return;
        }
        if waited.is_err() {
            continue;
        }
        match is_news(shared, &mut monitor) {
            Ok(true) => shared.network_changed(),
            Ok(false) => {}
            Err(error) => {
                shared.out.send(super::ExecEvent::Log(error));
                std::thread::sleep(PAUSE);
                shared.network_changed();
            }
        }
    }
}

/// Takes all pending changes; whether any may concern an address or a verdict.
fn is_news(shared: &Shared, monitor: &mut Monitor) -> Result<bool, String> {
    let mut news = false;
    while let Some(event) = monitor.next_event().map_err(|error| error.to_string())? {
        news |= match event {
            Event::Link(_) | Event::LinkRemoved(_) | Event::Overrun => true,
            Event::AddressRemoved(entry) => shared.addresses.is_placed(entry.address),
            // The guard renews the addresses each second.
            Event::Address(_) => false,
        };
    }
    Ok(news)
}

impl Shared {
    /// Tells the verdicts first, so that a lost address is known to be the NIC's fault.
    fn network_changed(&self) {
        self.take_verdicts(|resource| matches!(resource.kind, ResourceKind::Address(_)));
        let compared = self.addresses.compare(|key, nic| {
            if let Some(mut record) = self.records.read(key) {
                record.nic = Some(nic.to_owned());
                if let Err(error) = self.write_record(key, &record) {
                    self.out.log(key, error);
                }
            }
        });
        if let Err(error) = compared {
            self.out.send(super::ExecEvent::Log(format!(
                "cannot look at the addresses: {error}"
            )));
        }
    }

    /// Looks whether an address is set, for whoever asks.
    pub(super) fn look_at_address(
        &self,
        key: &super::slot::Key,
        spec: &hotpair_core::config::Address,
    ) {
        let found = self.addresses.look(key, spec);
        let running = found.is_ok();
        let detail = found.err().unwrap_or_default();
        self.out
            .fact(key, ResourceFact::Detected { running, detail });
    }
}
