//! Calls of the API that one node's daemon passes on to another's.

use crate::server::Answer;
use crate::transport::Passed;
use hotpair_api::{Call, Reply};
use hotpair_core::ids::MemberId;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// An answer that has not come by then is not waited for any more.
const LIMIT: Duration = Duration::from_secs(90);
/// Calls come over every connection: this many are remembered, so that none is carried out twice.
const REMEMBERED: usize = 256;

/// Calls on their way to other nodes, and those that came from them.
#[derive(Default)]
pub(crate) struct Passing {
    next: u64,
    waiting: BTreeMap<u64, (Instant, oneshot::Sender<Answer>)>,
    heard: VecDeque<(MemberId, u64)>,
}

impl Passing {
    /// What to send; the answer goes to `reply`.
    pub fn begin(&mut self, call: Call, reply: oneshot::Sender<Answer>) -> Passed {
        self.waiting
            .retain(|_, (since, reply)| since.elapsed() < LIMIT && !reply.is_closed());
        // Numbers must not be used again by a later run of this daemon.
        let first = hotpair_host::clock::read().boottime_us;
        self.next = self.next.max(first) + 1;
        self.waiting.insert(self.next, (Instant::now(), reply));
        Passed {
            number: self.next,
            text: serde_json::to_string(&call).unwrap_or_default(),
        }
    }

    /// An answer has come; the first one counts.
    pub fn answered(&mut self, passed: Passed) {
        let Some((_, reply)) = self.waiting.remove(&passed.number) else {
            return;
        };
        let answer = serde_json::from_str::<Reply>(&passed.text).unwrap_or_else(|_| {
            Reply::Refused(
                "the other node's answer cannot be read: it may have another version".into(),
            )
        });
        let _ = reply.send(answer.into());
    }

    /// A call has come; `None` if it was heard before or cannot be read.
    pub fn hear(&mut self, from: MemberId, passed: &Passed) -> Option<Call> {
        if self.heard.contains(&(from, passed.number)) {
            return None;
        }
        self.heard.push_back((from, passed.number));
        if self.heard.len() > REMEMBERED {
            self.heard.pop_front();
        }
        serde_json::from_str(&passed.text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_comes_over_two_links_is_heard_once() {
        let mut here = Passing::default();
        let mut there = Passing::default();
        let (reply, _answer) = oneshot::channel();
        let passed = here.begin(Call::Mirrors, reply);
        let me = MemberId(1);
        assert!(matches!(there.hear(me, &passed), Some(Call::Mirrors)));
        assert!(there.hear(me, &passed).is_none());
        assert!(there.hear(MemberId(2), &passed).is_some());
    }

    #[test]
    fn an_answer_reaches_who_asked_and_garbage_is_told() {
        let mut passing = Passing::default();
        for (text, good) in [("{\"mirrors\":[]}", true), ("nonsense", false)] {
            let (reply, mut answer) = oneshot::channel();
            let number = passing.begin(Call::Mirrors, reply).number;
            passing.answered(Passed {
                number,
                text: text.into(),
            });
            let reply = answer.try_recv().unwrap().reply;
            assert_eq!(matches!(reply, Reply::Mirrors(_)), good);
        }
    }
}
