//! Judging what the observers saw. Pure.

use super::ProbeOptions;
use super::client::Answer;
use super::referee::{Held, Sighting};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything the observers noted; times in microseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone)]
pub struct Observed {
    /// When the probe started.
    pub start_us: u64,
    /// When it ended.
    pub end_us: u64,
    /// Sending time of each request, by sequence number.
    pub sent_us: Vec<u64>,
    /// All answers, as received.
    pub answers: Vec<Answer>,
    /// Who used the address as source.
    pub sightings: Vec<Sighting>,
    /// Who held the address.
    pub held: Held,
}

/// A time without an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// Last answer before, in milliseconds since the probe's start.
    pub start_ms: f64,
    /// The same, in microseconds of CLOCK_MONOTONIC.
    pub start_mono_us: u64,
    /// Until the next answer, or to the probe's end.
    pub length_ms: f64,
    /// Who answered last; nobody if the probe started without answers.
    pub from_node: Option<String>,
    /// Who answered next; nobody if the probe ended without answers.
    pub to_node: Option<String>,
}

/// Uses of the virtual IP as source by one Ethernet address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceMac {
    /// The Ethernet address.
    pub mac: String,
    /// First frame, in milliseconds since the probe's start.
    pub first_ms: f64,
    /// Last frame before another address was seen.
    pub last_ms: f64,
    /// Number of frames.
    pub frames: u64,
}

/// What a client saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// When the probe started, in microseconds of CLOCK_MONOTONIC.
    pub start_mono_us: u64,
    /// How long it took.
    pub length_ms: f64,
    /// Number of requests.
    pub requests: u64,
    /// Number of answers.
    pub answers: u64,
    /// Answers by who gave them.
    pub answers_by_node: BTreeMap<String, u64>,
    /// All outages in order.
    pub outages: Vec<Outage>,
    /// The longest outage, 0 without one.
    pub longest_outage_ms: f64,
    /// How often another node answered than before, by sending time of the requests.
    pub node_changes: u64,
    /// Milliseconds whose requests two nodes answered, or a node that had been replaced.
    pub double_answer_ms: u64,
    /// Milliseconds in which two hosts that were not paused held the address.
    pub double_held_ms: f64,
    /// The same, paused hosts included.
    pub double_held_with_paused_ms: f64,
    /// Milliseconds in which each host held the address.
    pub held_ms: BTreeMap<String, f64>,
    /// Who sent frames in the address's name, in order.
    pub source_macs: Vec<SourceMac>,
    /// Each answer as (sent, received, index into `nodes`), in order of receipt; for further
    /// questions, not part of the JSON.
    #[serde(skip)]
    pub trace: Vec<(u64, u64, usize)>,
    /// Names that `trace` points to.
    #[serde(skip)]
    pub nodes: Vec<String>,
}

impl ProbeReport {
    /// The first answer to a request sent after `at_mono_us`: time of receipt and node.
    pub fn first_answer_after(&self, at_mono_us: u64) -> Option<(u64, &str)> {
        self.first_answer_where(|sent, _| sent >= at_mono_us)
    }

    /// The first answer of a node to a request sent after `at_mono_us`: time of receipt.
    pub fn first_answer_of(&self, node: &str, at_mono_us: u64) -> Option<u64> {
        self.first_answer_where(|sent, by| sent >= at_mono_us && by == node)
            .map(|(received, _)| received)
    }

    /// The longest time between two answers received after `at_mono_us`, counted from there, in
    /// milliseconds; up to the end of the probe if nobody answers.
    pub fn longest_silence_after(&self, at_mono_us: u64) -> f64 {
        let end = self.start_mono_us + micros(self.length_ms);
        let received = self
            .trace
            .iter()
            .map(|(_, received, _)| *received)
            .filter(|r| *r >= at_mono_us);
        let mut before = at_mono_us;
        let mut longest = 0;
        for at in received.chain([end]) {
            longest = longest.max(at.saturating_sub(before));
            before = at;
        }
        millis(longest)
    }

    fn first_answer_where(&self, fits: impl Fn(u64, &str) -> bool) -> Option<(u64, &str)> {
        let named = self.trace.iter().filter_map(|(sent, received, node)| {
            Some((*sent, *received, self.nodes.get(*node)?.as_str()))
        });
        named
            .filter(|(sent, _, node)| fits(*sent, node))
            .map(|(_, received, node)| (received, node))
            .next()
    }
}

/// Judges a probe.
pub fn judge(options: &ProbeOptions, seen: &Observed) -> ProbeReport {
    let mut nodes: Vec<String> = Vec::new();
    let mut trace = Vec::with_capacity(seen.answers.len());
    for answer in &seen.answers {
        let Some(sent) = usize::try_from(answer.sequence)
            .ok()
            .and_then(|i| seen.sent_us.get(i))
        else {
            continue;
        };
        let known = nodes.iter().position(|n| **n == *answer.node);
        let node = known.unwrap_or_else(|| {
            nodes.push(answer.node.to_string());
            nodes.len() - 1
        });
        trace.push((*sent, answer.received_us, node));
    }
    let outages = outages(options, seen, &trace, &nodes);
    let (double, changes) = doubles(
        &trace,
        u64::try_from(options.settle.as_micros()).unwrap_or(0),
    );
    let since = |us: u64| millis(us.saturating_sub(seen.start_us));
    let mut by_node = BTreeMap::new();
    for (_, _, node) in &trace {
        *by_node.entry(nodes[*node].clone()).or_insert(0) += 1;
    }
    ProbeReport {
        start_mono_us: seen.start_us,
        length_ms: since(seen.end_us),
        requests: seen.sent_us.len() as u64,
        answers: trace.len() as u64,
        answers_by_node: by_node,
        longest_outage_ms: outages.iter().map(|o| o.length_ms).fold(0.0, f64::max),
        outages,
        node_changes: changes,
        double_answer_ms: double,
        double_held_ms: millis(seen.held.double_us),
        double_held_with_paused_ms: millis(seen.held.double_with_paused_us),
        held_ms: seen
            .held
            .by_host
            .iter()
            .map(|(host, us)| (host.clone(), millis(*us)))
            .collect(),
        source_macs: seen
            .sightings
            .iter()
            .map(|s| source_mac(s, since))
            .collect(),
        trace,
        nodes,
    }
}

fn source_mac(sighting: &Sighting, since: impl Fn(u64) -> f64) -> SourceMac {
    let mac = sighting.mac.map(|byte| format!("{byte:02x}")).join(":");
    SourceMac {
        mac,
        first_ms: since(sighting.first_us),
        last_ms: since(sighting.last_us),
        frames: sighting.frames,
    }
}

fn outages(
    options: &ProbeOptions,
    seen: &Observed,
    trace: &[(u64, u64, usize)],
    nodes: &[String],
) -> Vec<Outage> {
    let limit = (options.interval * 2 + options.threshold).as_micros();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut found = Vec::new();
    let mut before: (u64, Option<usize>) = (seen.start_us, None);
    let received = trace
        .iter()
        .map(|(_, received, node)| (*received, Some(*node)));
    for (at, node) in received.chain([(seen.end_us, None)]) {
        let length = at.saturating_sub(before.0);
        if length > limit {
            let name = |index: Option<usize>| index.and_then(|i| nodes.get(i)).cloned();
            found.push(Outage {
                start_ms: millis(before.0.saturating_sub(seen.start_us)),
                start_mono_us: before.0,
                length_ms: millis(length),
                from_node: name(before.1),
                to_node: name(node),
            });
        }
        before = (at, node);
    }
    found
}

/// An uninterrupted series of requests that one node answered; times of sending.
#[derive(Clone, Copy)]
struct Run {
    node: usize,
    first_us: u64,
    last_us: u64,
}

/// Milliseconds with a double answer, and the number of changes of node.
///
/// In order of *sending*: a node that answers a request sent after another node's first answered
/// one gives a double answer, unless it returned: it had been silent for `settle_us` and then
/// answers alone for as long. So a paused host that answers late what it was asked before its
/// pause gives none, and one that goes on for a moment after it was replaced does. If another node
/// answered for a moment only, in between, that moment is the double answer.
fn doubles(trace: &[(u64, u64, usize)], settle_us: u64) -> (u64, u64) {
    let mut sorted: Vec<(u64, usize)> =
        trace.iter().map(|(sent, _, node)| (*sent, *node)).collect();
    sorted.sort_unstable();
    let mut slots = BTreeSet::new();
    for pair in sorted.windows(2) {
        if pair[0].1 != pair[1].1 && pair[0].0 / 1000 == pair[1].0 / 1000 {
            slots.insert(pair[0].0 / 1000);
        }
    }
    let runs = runs(&sorted);
    for intruder in intruders(&runs, settle_us) {
        let span = intruder.first_us..=intruder.last_us;
        let answered = sorted
            .iter()
            .filter(|(sent, node)| *node == intruder.node && span.contains(sent));
        slots.extend(answered.map(|(sent, _)| sent / 1000));
    }
    (slots.len() as u64, runs.len().saturating_sub(1) as u64)
}

fn runs(sorted: &[(u64, usize)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (sent, node) in sorted {
        match runs.last_mut() {
            Some(run) if run.node == *node => run.last_us = *sent,
            _ => runs.push(Run {
                node: *node,
                first_us: *sent,
                last_us: *sent,
            }),
        }
    }
    runs
}

/// The runs that should not have been: see [`doubles`].
fn intruders(runs: &[Run], settle_us: u64) -> Vec<Run> {
    let mut rightful: Vec<Run> = Vec::new();
    let mut intruders = Vec::new();
    for run in runs {
        let earlier = rightful.iter().rposition(|known| known.node == run.node);
        let alone = run.last_us - run.first_us >= settle_us;
        match earlier {
            Some(index) if index + 1 == rightful.len() => rightful[index].last_us = run.last_us,
            Some(index) if run.first_us - rightful[index].last_us < settle_us && alone => {
                intruders.extend(rightful.drain(index + 1..));
                rightful[index].last_us = run.last_us;
            }
            Some(index) if !alone || run.first_us - rightful[index].last_us < settle_us => {
                intruders.push(*run)
            }
            _ => rightful.push(*run),
        }
    }
    intruders
}

fn millis(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64() * 1000.0
}

fn micros(ms: f64) -> u64 {
    u64::try_from(std::time::Duration::from_secs_f64(ms.max(0.0) / 1000.0).as_micros())
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests every millisecond; each entry is (who answers, for how many requests, how late).
    fn seen(script: &[(Option<&str>, u64, u64)]) -> Observed {
        let (mut sent_us, mut answers) = (Vec::new(), Vec::new());
        for (node, count, late_us) in script {
            for _ in 0..*count {
                let at = 1_000_000 + 1000 * sent_us.len() as u64;
                let sequence = sent_us.len() as u64;
                sent_us.push(at);
                answers.extend(node.map(|n| Answer {
                    sequence,
                    received_us: at + late_us,
                    node: n.into(),
                }));
            }
        }
        answers.sort_by_key(|answer| answer.received_us);
        let end_us = 1_000_000 + 1000 * sent_us.len() as u64;
        Observed {
            start_us: 1_000_000,
            end_us,
            sent_us,
            answers,
            sightings: Vec::new(),
            held: Held::default(),
        }
    }

    fn report(script: &[(Option<&str>, u64, u64)]) -> ProbeReport {
        judge(&ProbeOptions::default(), &seen(script))
    }

    #[test]
    fn a_takeover_is_one_outage_and_no_double_answer() {
        let report = report(&[(Some("a"), 100, 0), (None, 200, 0), (Some("b"), 100, 0)]);
        assert_eq!(report.outages.len(), 1);
        let outage = &report.outages[0];
        assert_eq!(
            (outage.from_node.as_deref(), outage.to_node.as_deref()),
            (Some("a"), Some("b"))
        );
        assert_eq!(outage.length_ms, 201.0);
        assert_eq!((report.double_answer_ms, report.node_changes), (0, 1));
    }

    #[test]
    fn silence_at_the_end_is_an_outage_without_a_next_node() {
        let report = report(&[(Some("a"), 100, 0), (None, 50, 0)]);
        assert_eq!(report.outages.len(), 1);
        assert_eq!(report.outages[0].to_node, None);
    }

    #[test]
    fn no_answer_at_all_is_one_outage() {
        let report = report(&[(None, 100, 0)]);
        assert_eq!((report.outages.len(), report.longest_outage_ms), (1, 100.0));
    }

    #[test]
    fn a_few_lost_requests_are_no_outage() {
        assert_eq!(
            report(&[(Some("a"), 100, 0), (None, 8, 0), (Some("a"), 100, 0)]).outages,
            []
        );
    }

    #[test]
    fn an_old_node_that_answers_again_for_a_moment_is_a_double_answer() {
        let report = report(&[
            (Some("a"), 100, 0),
            (Some("b"), 3000, 0),
            (Some("a"), 20, 0),
            (Some("b"), 3000, 0),
        ]);
        assert_eq!(report.double_answer_ms, 20);
    }

    #[test]
    fn another_node_that_answers_for_a_moment_is_a_double_answer() {
        let report = report(&[
            (Some("a"), 3000, 0),
            (Some("b"), 20, 0),
            (Some("a"), 3000, 0),
        ]);
        assert_eq!(report.double_answer_ms, 20);
    }

    #[test]
    fn interleaved_answers_count() {
        let mut script = vec![(Some("a"), 100, 0)];
        for _ in 0..10 {
            script.extend([(Some("b"), 1, 0), (Some("a"), 1, 0)]);
        }
        script.push((Some("b"), 2000, 0));
        assert!(report(&script).double_answer_ms >= 10);
    }

    #[test]
    fn a_paused_host_that_answers_old_requests_late_gives_no_double_answer() {
        // What "a" was sent before the takeover it answers five seconds later.
        let report = report(&[
            (Some("a"), 100, 0),
            (Some("a"), 200, 5_000_000),
            (Some("b"), 6000, 0),
        ]);
        assert_eq!(report.double_answer_ms, 0);
        assert_eq!(
            report.outages.len(),
            1,
            "the late answers do not hide the outage"
        );
    }

    #[test]
    fn a_return_after_a_long_time_is_no_double_answer() {
        let report = report(&[
            (Some("a"), 100, 0),
            (Some("b"), 2000, 0),
            (Some("a"), 2000, 0),
        ]);
        assert_eq!((report.double_answer_ms, report.node_changes), (0, 2));
    }

    #[test]
    fn finds_the_first_answer_after_a_time() {
        let report = report(&[(Some("a"), 100, 0), (None, 50, 0), (Some("b"), 100, 300)]);
        assert_eq!(
            report.first_answer_after(1_000_000 + 100_000),
            Some((1_150_300, "b"))
        );
        assert_eq!(report.first_answer_of("a", 1_000_000 + 100_000), None);
    }
}
