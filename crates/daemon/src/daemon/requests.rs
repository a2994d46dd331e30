//! Requests of operators and joiners, their answers, and the way out.

use super::Daemon;
use crate::join::{self, JoinReply, JoinRequest, JoinStep};
use crate::server::Answer;
use hotpair_api::Reply;
use hotpair_core::ids::MemberId;
use hotpair_core::node::{Input, Level};
use hotpair_core::request::{Outcome, Request};
use hotpair_wire::pki::PkiError;
use hotpair_wire::token::Kind;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::oneshot;

/// Handing groups over when the daemon stops in good order may take so long.
const LEAVE_LIMIT: Duration = Duration::from_secs(120);
/// The same without a leader, where nothing can be handed over.
const ALONE_LIMIT: Duration = Duration::from_secs(10);
/// Time between two tries of a leave that is to happen in any case.
const ASK_GAP: Duration = Duration::from_secs(1);
/// A node that leaves stays for so long after there is nothing left to do for it: others learn what
/// was decided last.
const PARTING: Duration = Duration::from_millis(300);

/// Who waits for the answer to a request.
pub(super) enum Waiting {
    Api(oneshot::Sender<Answer>),
    Join {
        member: MemberId,
        witness: bool,
        reply: oneshot::Sender<JoinReply>,
        ticket: Box<hotpair_wire::token::Ticket>,
    },
    /// On the way out; nobody waits where the daemon itself asked.
    Leave {
        force: bool,
        reply: Option<oneshot::Sender<Answer>>,
    },
}

impl Daemon {
    pub(super) fn join(
        &mut self,
        from: SocketAddr,
        request: JoinRequest,
        reply: oneshot::Sender<JoinReply>,
    ) {
        let wanted = match request.step {
            JoinStep::Look => None,
            JoinStep::Witness { .. } => Some(Kind::Witness),
            JoinStep::Node { .. } => Some(Kind::Node),
        };
        if let Err(refusal) = self.tokens.check(&request.ticket, wanted) {
            self.log(Level::Warning, &format!("{from} tried to join: {refusal}"));
            let _ = reply.send(JoinReply::Refused(refusal));
            return;
        }
        let Some(document) = self.node.document().cloned() else {
            return;
        };
        if matches!(request.step, JoinStep::Look) {
            let _ = reply.send(join::offer(&document.config));
            return;
        }
        match join::admit(&document, &request.step) {
            Ok((config, member)) => {
                let witness = matches!(request.step, JoinStep::Witness { .. });
                let waiting = Waiting::Join {
                    member,
                    witness,
                    reply,
                    ticket: Box::new(request.ticket),
                };
                let made_from = document.revision;
                self.request(
                    Request::Configure {
                        config: Box::new(config),
                        made_from,
                    },
                    false,
                    waiting,
                );
            }
            Err(refusal) => {
                let _ = reply.send(JoinReply::Refused(refusal));
            }
        }
    }

    fn request(&mut self, request: Request, dry_run: bool, waiting: Waiting) {
        self.next_request += 1;
        let id = self.next_request;
        self.waiting.insert(id, waiting);
        self.step(Input::Request {
            id,
            request: Box::new(request),
            dry_run,
        });
    }

    /// Passes an operator's request on; the caller gets its outcome.
    pub(crate) fn operate(
        &mut self,
        request: Request,
        dry_run: bool,
        reply: oneshot::Sender<Answer>,
    ) {
        self.request(request, dry_run, Waiting::Api(reply));
    }

    pub(super) fn answered(&mut self, id: u64, outcome: Outcome) {
        match self.waiting.remove(&id) {
            Some(Waiting::Api(reply)) => {
                let answer = match outcome {
                    Outcome::Done(text) => Reply::Done(text),
                    Outcome::Refused(text) => Reply::Refused(text),
                    Outcome::Undecided(text) => Reply::Undecided(text),
                };
                let _ = reply.send(answer.into());
            }
            Some(Waiting::Join {
                member,
                witness,
                reply,
                ticket,
            }) => {
                let _ = reply.send(self.welcome(member, witness, &ticket, outcome));
            }
            Some(Waiting::Leave { force, reply }) => {
                let answer = match outcome {
                    Outcome::Done(text) => {
                        self.begin_leaving();
                        Reply::Done(format!("{text}; then the daemon ends"))
                    }
                    Outcome::Refused(text) | Outcome::Undecided(text) if force => {
                        self.ask_to_leave = Some(tokio::time::Instant::now() + ASK_GAP);
                        Reply::Done(format!("the daemon ends, without handing over: {text}"))
                    }
                    Outcome::Refused(text) => Reply::Refused(text),
                    Outcome::Undecided(text) => Reply::Undecided(format!(
                        "{text}; if it is decided later all the same, the daemon ends then"
                    )),
                };
                if let Some(reply) = reply {
                    let _ = reply.send(answer.into());
                }
            }
            None => {}
        }
    }

    fn welcome(
        &mut self,
        member: MemberId,
        witness: bool,
        ticket: &hotpair_wire::token::Ticket,
        outcome: Outcome,
    ) -> JoinReply {
        if let Outcome::Refused(text) | Outcome::Undecided(text) = outcome {
            return JoinReply::Refused(text);
        }
        if let Err(refusal) = self.tokens.redeem(ticket) {
            return JoinReply::Refused(refusal);
        }
        let Some(document) = self.node.document().cloned() else {
            return JoinReply::Refused("this node has no document: ask again".into());
        };
        let heartbeat = (self.keys.heartbeat_key_id, self.keys.heartbeat_key.clone());
        let issued = self.keys.authority().and_then(|authority| {
            let authority = authority.ok_or(PkiError::Foreign)?;
            join::issue(&authority, &document, member, heartbeat, !witness)
        });
        match issued {
            Ok(keys) => JoinReply::Welcome {
                keys: Box::new(keys),
                state: Box::new(join::first_state(&document)),
            },
            Err(error) => JoinReply::Refused(format!("no keys can be made for it: {error}")),
        }
    }

    /// Ends the daemon alone, which only a disarmed cluster allows.
    pub(crate) fn leave_services(&mut self) -> Reply {
        let disarmed = self
            .node
            .document()
            .is_some_and(|document| document.disarmed);
        if !disarmed {
            return Reply::Refused(
                "services can be left running only while the cluster is disarmed: run `hotpair disarm` first".into(),
            );
        }
        self.ended = true;
        Reply::Done("the daemon ends; its services and their addresses stay".into())
    }

    /// Stops the daemon in good order: its groups are handed over first. With `force` it ends also
    /// where that cannot be decided, or nobody can take them.
    pub(crate) fn shut_down(&mut self, force: bool, reply: Option<oneshot::Sender<Answer>>) {
        if force {
            self.begin_leaving();
        }
        let request = Request::Leave {
            nodes: BTreeSet::from([self.keys.member]),
            force,
        };
        self.request(request, false, Waiting::Leave { force, reply });
    }

    fn begin_leaving(&mut self) {
        self.leaving.get_or_insert_with(tokio::time::Instant::now);
    }

    /// Somebody had this run of the daemon leave: here, on another node, or long before it could be
    /// decided.
    fn told_to_leave(&mut self) {
        let me = self.keys.member;
        let run = Some((self.boot, self.node.incarnation()));
        let told = self.node.acting().is_some_and(|document| {
            let member = document.members.get(&me);
            member.is_some_and(|member| member.left && member.left_run == run)
        });
        if told {
            self.begin_leaving();
        }
    }

    pub(super) fn leave(&mut self) {
        self.told_to_leave();
        let Some(since) = self.leaving else { return };
        self.ask_again();
        let limit = if self.node.has_leader() {
            LEAVE_LIMIT
        } else {
            ALONE_LIMIT
        };
        if self.free_to_leave() {
            self.free.get_or_insert_with(tokio::time::Instant::now);
        } else {
            self.free = None;
        }
        let done = self.free.is_some_and(|free| free.elapsed() >= PARTING);
        if done || since.elapsed() >= limit {
            self.log(Level::Message, "the daemon ends");
            self.end_guard = true;
            self.ended = true;
        }
    }

    /// The leader of the time may have gone without an answer to a leave that is to happen in any case.
    fn ask_again(&mut self) {
        let due = self
            .ask_to_leave
            .is_some_and(|at| tokio::time::Instant::now() >= at);
        if due && self.node.has_leader() {
            self.ask_to_leave = None;
            self.shut_down(true, None);
        }
    }

    /// Nothing is left to do for a node that leaves.
    fn free_to_leave(&self) -> bool {
        let me = self.keys.member;
        let Some(document) = self.node.document() else {
            return true;
        };
        let left = |member: &MemberId| document.members.get(member).is_none_or(|m| m.left);
        if !left(&me) || document.held_by(me).next().is_some() {
            return false;
        }
        let staying = |node: &MemberId| *node != me && !left(node) && self.node.hears(*node);
        if document.config.nodes.keys().any(staying) {
            // Without a witness the survivor needs this node's word that it votes no more.
            return document.config.witness.is_some()
                || document.voters.all().len() == 1
                || !document.voters.contains(me);
        }
        // Everybody leaves: a majority is needed until all groups are given up.
        let held = document.groups.values().any(|placement| {
            placement
                .holder
                .is_some_and(|holder| self.node.hears(holder))
        });
        !held || !self.node.has_leader()
    }
}
