//! One-time tokens this node has given out. They live in memory: a restart of the daemon voids them.

use hotpair_core::config::Cluster;
use hotpair_core::ids::MemberId;
use hotpair_wire::ClusterId;
use hotpair_wire::token::{Kind, StoredToken, Ticket, Token};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Given out and not used up.
#[derive(Default)]
pub struct Tokens {
    open: Vec<(StoredToken, Instant)>,
}

impl Tokens {
    /// A new token, good for one member within `valid_for`.
    ///
    /// # Errors
    /// The text says why none can be made.
    pub fn give(
        &mut self,
        config: &Cluster,
        me: MemberId,
        fingerprint: &[u8; 32],
        witness: bool,
        valid_for: Duration,
    ) -> Result<String, String> {
        let own = config
            .links
            .iter()
            .filter_map(|link| link.addresses.get(&me));
        let addresses: Vec<SocketAddr> = own.copied().take(8).collect();
        let kind = if witness { Kind::Witness } else { Kind::Node };
        let random = ring::rand::SystemRandom::new();
        let token = Token::generate(
            &random,
            kind,
            ClusterId(config.id.0),
            fingerprint,
            &addresses,
        )
        .map_err(|error| format!("no token can be made: {error}"))?;
        self.open.retain(|(_, until)| *until > Instant::now());
        self.open.push((token.stored(), Instant::now() + valid_for));
        Ok(token.to_string())
    }

    /// Would this ticket be taken? Does not use it up.
    ///
    /// # Errors
    /// The text says why not, and what to do.
    pub fn check(&mut self, ticket: &Ticket) -> Result<(), String> {
        self.find(ticket)?
            .clone()
            .redeem(ticket)
            .map_err(|refusal| refusal.to_string())
    }

    /// Takes the ticket and uses it up.
    ///
    /// # Errors
    /// The text says why not, and what to do.
    pub fn redeem(&mut self, ticket: &Ticket) -> Result<(), String> {
        self.find(ticket)?
            .redeem(ticket)
            .map_err(|refusal| refusal.to_string())
    }

    fn find(&mut self, ticket: &Ticket) -> Result<&mut StoredToken, String> {
        self.open.retain(|(_, until)| *until > Instant::now());
        let found = self
            .open
            .iter_mut()
            .map(|(token, _)| token)
            .find(|token| token.id() == ticket.id());
        found.ok_or_else(|| {
            "this token is not known here: it has expired, or the daemon that gave it was restarted; make a new one with `hotpair token`".into()
        })
    }
}
