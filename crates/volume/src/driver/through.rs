//! A stand-in for the engine: every request goes to the local disk, and nothing else happens. For
//! benchmarks of the export alone, and for tests of the driver.

use super::Decide;
use crate::engine::{
    BufferId, Effect, Event, Found, IoError, IoId, Part, Status, Ticket, Token, Transfer,
};
use hotpair_core::time::Moment;
use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct Through {
    disk: Option<Found>,
    waiting: Option<Ticket>,
    open: bool,
    next: u64,
    under_way: HashMap<Token, UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    io: IoId,
    buffer: Option<BufferId>,
}

impl Through {
    fn begin(&mut self, io: IoId, buffer: Option<BufferId>) -> Token {
        self.next += 1;
        let token = Token(self.next);
        self.under_way.insert(token, UnderWay { io, buffer });
        token
    }

    fn open_now(&mut self, effects: &mut Vec<Effect>) {
        let Some(disk) = &self.disk else { return };
        if let Some(ticket) = self.waiting.take() {
            self.open = true;
            let result = Ok(disk.size);
            effects.push(Effect::Opened { ticket, result });
        }
    }

    fn ended(&mut self, token: Token, result: Result<(), IoError>, effects: &mut Vec<Effect>) {
        if let Some(UnderWay { io, buffer }) = self.under_way.remove(&token) {
            effects.push(Effect::Complete { io, result });
            effects.extend(buffer.map(|buffer| Effect::Release { buffer }));
        }
    }

    fn fail_all(&mut self, effects: &mut Vec<Effect>) {
        self.open = false;
        let mut tokens: Vec<_> = self.under_way.keys().copied().collect();
        tokens.sort_unstable();
        for token in tokens {
            self.ended(token, Err(IoError::Closed), effects);
        }
    }
}

fn whole(buffer: BufferId, at: Transfer) -> Part {
    Part {
        buffer,
        offset: 0,
        length: at.length,
    }
}

impl Decide for Through {
    fn step(&mut self, _now: Moment, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Disk(found) => {
                self.disk = Some(found);
                self.open_now(effects);
            }
            Event::Open { ticket, .. } => {
                self.waiting = Some(ticket);
                self.open_now(effects);
            }
            Event::Close { ticket } => {
                self.open = false;
                let result = Ok(());
                effects.push(Effect::Closed { ticket, result });
            }
            Event::GateClosed => self.fail_all(effects),
            Event::Read { io, at, buffer } => {
                let token = self.begin(io, Some(buffer));
                let to = whole(buffer, at);
                effects.push(Effect::Read { token, at, to });
            }
            Event::Write {
                io,
                at,
                buffer,
                fua,
            } => {
                let token = self.begin(io, Some(buffer));
                effects.push(Effect::Write {
                    token,
                    at,
                    from: whole(buffer, at),
                    durable: fua,
                });
            }
            Event::Flush { io } => {
                let token = self.begin(io, None);
                effects.push(Effect::Flush { token });
            }
            Event::Discard { io, at, zero } => {
                let token = self.begin(io, None);
                effects.push(Effect::Discard { token, at, zero });
            }
            Event::Done { token, result } => self.ended(token, result.map(|_| ()), effects),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Moment> {
        None
    }

    fn status(&self, _now: Moment) -> Status {
        Status {
            size: self.disk.as_ref().map_or(0, |disk| disk.size),
            ..Status::default()
        }
    }
}
