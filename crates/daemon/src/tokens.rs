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

    /// Would this ticket be taken, by one that wants to become `wanted` (nothing if it only looks)?
    /// Does not use it up.
    ///
    /// # Errors
    /// The text says why not, and what to do.
    pub fn check(&mut self, ticket: &Ticket, wanted: Option<Kind>) -> Result<(), String> {
        if wanted.is_some_and(|wanted| wanted != ticket.kind()) {
            return Err(match ticket.kind() {
                Kind::Witness => "this token is for a witness: use it with `hotpair witness join`, or make one for a node with `hotpair token`",
                Kind::Node => "this token is for a node: use it with `hotpair join`, or make one for a witness with `hotpair token --witness`",
            }
            .into());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn token(kind: Kind) -> (Tokens, Ticket) {
        let random = ring::rand::SystemRandom::new();
        let address = SocketAddr::from(([10, 0, 0, 1], 14338));
        let made = Token::generate(&random, kind, ClusterId(7), &[1; 32], &[address]);
        let made = made.expect("a token");
        let until = Instant::now() + Duration::from_secs(60);
        let tokens = Tokens {
            open: vec![(made.stored(), until)],
        };
        (tokens, made.ticket())
    }

    #[test]
    fn refuses_to_make_a_node_of_a_witness_and_the_reverse() {
        for (made, other) in [(Kind::Node, Kind::Witness), (Kind::Witness, Kind::Node)] {
            let (mut tokens, ticket) = token(made);
            assert!(tokens.check(&ticket, Some(other)).is_err());
            assert_eq!(tokens.check(&ticket, Some(made)), Ok(()));
            assert_eq!(tokens.check(&ticket, None), Ok(()));
        }
    }

    #[test]
    fn refuses_what_is_used_up_or_was_never_given() {
        let (mut tokens, ticket) = token(Kind::Node);
        tokens.redeem(&ticket).expect("the first time");
        assert!(tokens.check(&ticket, Some(Kind::Node)).is_err());
        assert!(tokens.redeem(&ticket).is_err());
        let (_, foreign) = token(Kind::Node);
        assert!(tokens.check(&foreign, Some(Kind::Node)).is_err());
    }
}
