//! Sealed datagrams over every path: sockets, the replay window, and how each path does.

use super::protocol::{LinkSight, Setup, WITNESS_PATH};
use hotpair_core::ids::MemberId;
use hotpair_core::message::Datagram;
use hotpair_host::net::udp;
use hotpair_wire::ClusterId;
use hotpair_wire::codec;
use hotpair_wire::replay::{ReplayWindow, Verdict};
use hotpair_wire::seal::{Keyring, MAX_DATAGRAM, Opener, Sealer, StartSalt};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A socket that could not be opened is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// The datagram side of the guard.
pub struct Paths {
    setup: Setup,
    sealer: Sealer,
    opener: Opener,
    /// By path number; `None`: could not be opened (yet).
    sockets: BTreeMap<u8, Option<UdpSocket>>,
    witness_v6: Option<UdpSocket>,
    tried: Instant,
    windows: BTreeMap<MemberId, ReplayWindow>,
    sights: BTreeMap<(MemberId, u8), Sight>,
    beats_sent: BTreeMap<u64, Instant>,
}

/// The last hundred beats of one member over one path.
#[derive(Clone, Debug, Default)]
struct Sight {
    run: (u64, u64),
    newest: u64,
    seen: u128,
    counted: u32,
    heard: Option<Instant>,
    round_trip: Option<Duration>,
}

impl Sight {
    fn beat(&mut self, run: (u64, u64), seq: u64) {
        if run != self.run {
            *self = Self {
                run,
                round_trip: self.round_trip,
                ..Self::default()
            };
        }
        self.heard = Some(Instant::now());
        if seq > self.newest {
            let steps = u32::try_from(seq - self.newest).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(steps).unwrap_or(0) | 1;
            self.counted = if self.newest == 0 {
                1
            } else {
                self.counted.saturating_add(steps).min(100)
            };
            self.newest = seq;
        } else if let Some(bit) = u32::try_from(self.newest - seq)
            .ok()
            .filter(|&back| back < 128)
        {
            self.seen |= 1 << bit;
        }
    }

    fn lost(&self) -> u8 {
        let window = (1u128 << self.counted) - 1;
        let seen = (self.seen & window).count_ones();
        u8::try_from((self.counted - seen.min(self.counted)) * 100 / self.counted.max(1))
            .unwrap_or(100)
    }
}

impl Paths {
    /// Opens the sockets of `setup`. What cannot be opened is named in the list and tried again.
    ///
    /// # Errors
    /// No random numbers for the nonces.
    pub fn open(setup: Setup) -> Result<(Self, Vec<String>), String> {
        let keyring = Keyring::new(ClusterId(setup.cluster), setup.key_id, setup.key.clone());
        let salt = StartSalt::generate(&ring::rand::SystemRandom::new())
            .map_err(|_| "the kernel has no random numbers".to_owned())?;
        let mut paths = Self {
            sealer: Sealer::new(&keyring, setup.me.0, salt),
            opener: Opener::new(keyring),
            sockets: BTreeMap::new(),
            witness_v6: None,
            tried: Instant::now(),
            windows: BTreeMap::new(),
            sights: BTreeMap::new(),
            beats_sent: BTreeMap::new(),
            setup,
        };
        let problems = paths.open_missing();
        Ok((paths, problems))
    }

    /// Takes over a changed setup, keeping sockets whose address is the same.
    pub fn change(&mut self, setup: Setup) -> Vec<String> {
        let keyring = Keyring::new(ClusterId(setup.cluster), setup.key_id, setup.key.clone());
        self.sealer.use_keyring(&keyring);
        self.opener.use_keyring(keyring);
        let same = |path: u8, old: &Setup| {
            let local = |setup: &Setup| setup.links.get(usize::from(path)).map(|link| link.local);
            path == WITNESS_PATH || local(old) == local(&setup)
        };
        self.sockets.retain(|&path, _| same(path, &self.setup));
        self.setup = setup;
        self.open_missing()
    }

    fn open_missing(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        self.tried = Instant::now();
        for (path, link) in (0u8..).zip(&self.setup.links) {
            if let Some(Some(_)) = self.sockets.get(&path) {
                continue;
            }
            let socket = match udp::bind(link.local, None) {
                Ok(socket) => Some(socket),
                Err(error) => {
                    if !self.sockets.contains_key(&path) {
                        problems.push(format!("link {}: {error}", link.name));
                    }
                    None
                }
            };
            self.sockets.insert(path, socket);
        }
        if self.setup.witness.is_some() && !matches!(self.sockets.get(&WITNESS_PATH), Some(Some(_)))
        {
            let any: SocketAddr = (Ipv4Addr::UNSPECIFIED, 0).into();
            self.sockets.insert(WITNESS_PATH, udp::bind(any, None).ok());
            let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
            self.witness_v6 = udp::bind(any, None).ok();
        }
        problems
    }

    /// Tries again what could not be opened.
    pub fn retry(&mut self) {
        if self.tried.elapsed() >= RETRY && self.sockets.values().any(Option::is_none) {
            self.open_missing();
        }
    }

    /// Sockets to wait on.
    pub fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.sockets.values().flatten().chain(&self.witness_v6)
    }

    /// Sends over every path to `to`. A path that does not take it is a lost heartbeat.
    pub fn send(&mut self, to: MemberId, datagram: &Datagram) {
        let plain = codec::encode(datagram);
        if let Datagram::Beat(beat) = datagram {
            self.beats_sent.entry(beat.seq).or_insert_with(Instant::now);
            while self.beats_sent.len() > 64 {
                self.beats_sent.pop_first();
            }
        }
        let mut sealed = Vec::with_capacity(MAX_DATAGRAM);
        if let Some((witness, addresses)) = &self.setup.witness
            && *witness == to
        {
            for address in addresses {
                let socket = if address.is_ipv4() {
                    self.sockets.get(&WITNESS_PATH).and_then(Option::as_ref)
                } else {
                    self.witness_v6.as_ref()
                };
                if let Some(socket) = socket
                    && self.sealer.seal(WITNESS_PATH, &plain, &mut sealed).is_ok()
                {
                    let _ = socket.send_to(&sealed, address);
                }
            }
            return;
        }
        for (path, link) in (0u8..).zip(&self.setup.links) {
            if let (Some(address), Some(Some(socket))) =
                (link.peers.get(&to), self.sockets.get(&path))
                && self.sealer.seal(path, &plain, &mut sealed).is_ok()
            {
                let _ = socket.send_to(&sealed, address);
            }
        }
    }

    /// Everything that has come, opened and checked; what is forged, foreign, garbled or repeated is
    /// dropped.
    pub fn receive(&mut self) -> Vec<Datagram> {
        let mut raw = Vec::new();
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for socket in self.sockets.values().flatten().chain(&self.witness_v6) {
            // Bounded, so that a flood on one path cannot starve the rest.
            for _ in 0..256 {
                match socket.recv_from(&mut buffer) {
                    Ok((length, _)) => raw.extend(self.opener.open(&buffer[..length]).ok()),
                    Err(_) => break,
                }
            }
        }
        raw.into_iter()
            .filter_map(|opened| self.accept(opened.sender, opened.path, &opened.plaintext))
            .collect()
    }

    fn accept(&mut self, sender: u8, path: u8, plain: &[u8]) -> Option<Datagram> {
        let sender = MemberId(sender);
        let datagram: Datagram = codec::decode(plain).ok()?;
        match &datagram {
            Datagram::Beat(beat) => {
                if beat.from != sender || sender == self.setup.me {
                    return None;
                }
                let verdict = self.windows.entry(sender).or_default().accept(
                    beat.boot.0,
                    beat.run.0,
                    beat.seq,
                );
                if matches!(verdict, Verdict::Fresh | Verdict::Duplicate) {
                    self.sights
                        .entry((sender, path))
                        .or_default()
                        .beat((beat.boot.0, beat.run.0), beat.seq);
                }
                (verdict == Verdict::Fresh).then_some(datagram)
            }
            Datagram::Ack(ack) => {
                if ack.from != sender || ack.to != self.setup.me {
                    return None;
                }
                let sight = self.sights.entry((sender, path)).or_default();
                sight.heard = Some(Instant::now());
                if let Some(sent) = self.beats_sent.get(&ack.beat_seq) {
                    sight.round_trip = Some(sent.elapsed());
                }
                Some(datagram)
            }
        }
    }

    /// How every member is heard over every path.
    pub fn sights(&self) -> Vec<LinkSight> {
        let ms = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.sights
            .iter()
            .map(|(&(member, path), sight)| LinkSight {
                member,
                path,
                silent_ms: sight.heard.map(ms),
                lost_of_100: sight.lost(),
                round_trip_us: sight.round_trip.map(us),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Sight;

    #[test]
    fn counts_what_was_lost_of_the_last_hundred_beats() {
        let mut sight = Sight::default();
        for seq in (1..=200).filter(|seq| seq % 4 != 0) {
            sight.beat((1, 1), seq);
        }
        assert_eq!(sight.lost(), 25);
    }

    #[test]
    fn a_new_run_starts_counting_anew() {
        let mut sight = Sight::default();
        sight.beat((1, 1), 1);
        sight.beat((1, 1), 90);
        sight.beat((1, 2), 1);
        assert_eq!(sight.lost(), 0);
    }
}
