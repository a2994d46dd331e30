//! `hotpair probe`: asks a service again and again from here, as its clients do, and says when it did not answer.

use crate::failure::{Code, Failure};
use crate::session::{Outcome, Session};
use clap::Args;
use hotpair_host::detect::{Detected, TcpCheck, UrlCheck};
use serde::Serialize;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ask a service again and again, as its clients do, and say when it did not answer and for how long.
///
/// Needs no cluster: run it on a client's machine, and pull the plug meanwhile.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// What to ask: `10.0.0.100:5432` (a TCP connection) or `http://10.0.0.100/` (an answer below 400).
    #[arg(value_parser = target)]
    target: Target,
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Milliseconds from one question to the next; outages shorter than three of them are not seen.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    interval_ms: u64,
    /// Write the report to this file too, as a page with a chart.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A service, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tcp(SocketAddr),
    Url(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

pub fn target(text: &str) -> Result<Target, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(Target::Url(text.to_owned()));
    }
    text.parse().map(Target::Tcp).map_err(|_| {
        format!(
            "`{text}` is no service: write 10.0.0.100:5432, [fd00::100]:5432 or http://10.0.0.100/"
        )
    })
}

/// A question that is not answered by then counts as not answered.
const PATIENCE: Duration = Duration::from_secs(1);
/// Questions under way at once; more are not asked while nobody answers.
const MAX_ASKED: usize = 64;

/// One question.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Since the beginning.
    at: Duration,
    /// Until the answer; `None`: there was none.
    took: Option<Duration>,
}

/// Asks until it is stopped.
pub struct Probe {
    begun: Instant,
    interval: Duration,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Asked>>>,
    thread: std::thread::JoinHandle<()>,
}

/// What was seen. All times in milliseconds since the beginning.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeView {
    pub target: String,
    pub seconds: f64,
    pub interval_ms: u64,
    pub questions: usize,
    pub answers: usize,
    /// Times without an answer, longer than three intervals.
    pub outages: Vec<OutageView>,
    /// Median and longest time until an answer.
    pub answer_ms: Option<(f64, f64)>,
    #[serde(skip)]
    series: Vec<(f64, Option<f64>)>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutageView {
    /// When the last answer before it came.
    pub from_ms: f64,
    /// Until the next answer came; `None`: not within the time.
    pub length_ms: Option<f64>,
}

impl Probe {
    pub fn start(target: Target, interval: Duration) -> Self {
        let begun = Instant::now();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let thread = std::thread::spawn({
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            move || ask(&target, begun, interval, &stop, &asked)
        });
        Self {
            begun,
            interval,
            stop,
            asked,
            thread,
        }
    }

    /// Is the newest question that has ended answered?
    pub fn answered(&self) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .iter()
            .max_by_key(|one| one.at)
            .is_some_and(|one| one.took.is_some())
    }

    /// Since the beginning.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub fn finish(self, target: &Target) -> ProbeView {
        self.stop.store(true, Ordering::Relaxed);
        let total = self.begun.elapsed();
        let _ = self.thread.join();
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        judge(target, asked.clone(), total, self.interval)
    }
}

fn ask(
    target: &Target,
    begun: Instant,
    interval: Duration,
    stop: &AtomicBool,
    asked: &Arc<Mutex<Vec<Asked>>>,
) {
    let under_way = Arc::new(AtomicUsize::new(0));
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if under_way.load(Ordering::Relaxed) < MAX_ASKED {
            under_way.fetch_add(1, Ordering::Relaxed);
            let (target, asked, under_way) =
                (target.clone(), Arc::clone(asked), Arc::clone(&under_way));
            std::thread::spawn(move || {
                let at = begun.elapsed();
                let answered = once(&target) == Detected::Running;
                let took = answered.then(|| begun.elapsed().saturating_sub(at));
                let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.push(Asked { at, took });
                under_way.fetch_sub(1, Ordering::Relaxed);
            });
        }
        due = (due + interval).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let end = Instant::now() + 2 * PATIENCE;
    while under_way.load(Ordering::Relaxed) > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn once(target: &Target) -> Detected {
    match target {
        Target::Tcp(addr) => TcpCheck {
            addr: *addr,
            timeout: PATIENCE,
            question: None,
        }
        .check(),
        Target::Url(url) => UrlCheck {
            tries: 1,
            timeout: PATIENCE,
            ..UrlCheck::new(url.clone())
        }
        .check(),
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn judge(target: &Target, mut asked: Vec<Asked>, total: Duration, interval: Duration) -> ProbeView {
    asked.sort_by_key(|one| one.at);
    let answered = || asked.iter().filter_map(|one| Some((one.at, one.took?)));
    let mut arrivals: Vec<_> = answered().map(|(at, took)| at + took).collect();
    arrivals.sort();
    let mut outages = Vec::new();
    let mut last = Duration::ZERO;
    for arrival in arrivals {
        if arrival - last > 3 * interval {
            outages.push(OutageView {
                from_ms: ms(last),
                length_ms: Some(ms(arrival - last)),
            });
        }
        last = arrival;
    }
    // Questions that were asked at the very end may not have ended.
    if total.saturating_sub(last) > 3 * interval + PATIENCE {
        outages.push(OutageView {
            from_ms: ms(last),
            length_ms: None,
        });
    }
    let mut times: Vec<_> = answered().map(|(_, took)| took).collect();
    times.sort();
    let answer_ms = times
        .last()
        .map(|longest| (ms(times[times.len() / 2]), ms(*longest)));
    ProbeView {
        target: target.to_string(),
        seconds: total.as_secs_f64(),
        interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
        questions: asked.len(),
        answers: times.len(),
        outages,
        answer_ms,
        series: asked
            .iter()
            .map(|one| (ms(one.at), one.took.map(ms)))
            .collect(),
    }
}

pub fn run(session: &Session, args: &ProbeArgs) -> Outcome {
    let probe = Probe::start(args.target.clone(), Duration::from_millis(args.interval_ms));
    if !session.json {
        eprintln!("asking {} for {} s", args.target, args.seconds);
    }
    std::thread::sleep(Duration::from_secs(args.seconds));
    let view = probe.finish(&args.target);
    if let Some(path) = &args.html {
        let page = page(&view.target, &text(&view), &view, &[]);
        write_page(path, &page)?;
    }
    if view.answers == 0 {
        let message = format!("{} did not answer at all", view.target);
        return Err(Failure::new(Code::Refused, message)
            .hint("is the address right, and does the group run? `hotpair status` on a node"));
    }
    session.show(&view, || text(&view))?;
    Ok(ExitCode::SUCCESS)
}

pub fn write_page(path: &std::path::Path, page: &str) -> Result<(), Failure> {
    std::fs::write(path, page)
        .map_err(|error| Failure::refused(format!("cannot write {}: {error}", path.display())))
}

pub fn text(view: &ProbeView) -> String {
    let mut out = format!(
        "{}: {} of {} questions answered in {:.1} s",
        view.target, view.answers, view.questions, view.seconds
    );
    if let Some((median, longest)) = view.answer_ms {
        let _ = write!(out, ", after {median} ms (median), {longest} ms (longest)");
    }
    out.push('\n');
    for outage in &view.outages {
        let from = outage.from_ms / 1000.0;
        let _ = match outage.length_ms {
            Some(length) => writeln!(out, "  no answer for {length:.0} ms, from {from:.3} s on"),
            None => writeln!(out, "  no answer from {from:.3} s to the end"),
        };
    }
    if view.outages.is_empty() {
        let _ = writeln!(out, "  no outage longer than {} ms", 3 * view.interval_ms);
    }
    out
}

/// A page that needs nothing from anywhere else: the text, and each question as a point in time.
pub fn page(title: &str, text: &str, view: &ProbeView, marks: &[(f64, String)]) -> String {
    const WIDTH: f64 = 960.0;
    const HEIGHT: f64 = 220.0;
    let end = (view.seconds * 1000.0).max(1.0);
    let top = view.answer_ms.map_or(1.0, |(_, longest)| longest.max(1.0));
    let x = |at: f64| (at / end * WIDTH).clamp(0.0, WIDTH);
    let mut chart = String::new();
    for outage in &view.outages {
        let length = outage.length_ms.unwrap_or(end - outage.from_ms);
        let _ = write!(
            chart,
            "<rect x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"#f4b6bd\"/>",
            x(outage.from_ms),
            x(length).max(1.0)
        );
    }
    for (at, took) in &view.series {
        let (y, colour) = match took {
            Some(took) => (HEIGHT - 6.0 - took / top * (HEIGHT - 40.0), "#1a7f37"),
            None => (HEIGHT - 3.0, "#a40e26"),
        };
        let _ = write!(
            chart,
            "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"1.5\" fill=\"{colour}\"/>",
            x(*at)
        );
    }
    for (at, what) in marks {
        let _ = write!(
            chart,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{HEIGHT}\" stroke=\"#57606a\" stroke-dasharray=\"3\"/>\
             <text x=\"{1:.1}\" y=\"12\" font-size=\"12\">{2}</text>",
            x(*at),
            x(*at) + 4.0,
            escape(what)
        );
    }
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>\
         body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#1b1f24;background:#fff}}\
         svg{{width:100%;border:1px solid #c9d1d9}}</style></head><body><h1>{0}</h1><pre>{1}</pre>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"answers over time\">{chart}</svg>\
         <p>Left to right: {2:.1} s. A green point is an answer, the higher the later (up to {top} ms); a red one at \
         the bottom is a question without an answer; red ground is an outage.</p></body></html>\n",
        escape(title),
        escape(text),
        view.seconds,
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(at: u64, answered: bool) -> Asked {
        Asked {
            at: Duration::from_millis(at),
            took: answered.then_some(Duration::from_millis(1)),
        }
    }

    fn view(times: impl IntoIterator<Item = (u64, bool)>, total: u64) -> ProbeView {
        let asked_all = times
            .into_iter()
            .map(|(at, answered)| asked(at, answered))
            .collect();
        let target = Target::Tcp("10.0.0.1:1".parse().unwrap());
        judge(
            &target,
            asked_all,
            Duration::from_millis(total),
            Duration::from_millis(20),
        )
    }

    #[test]
    fn an_outage_is_from_the_last_answer_to_the_next() {
        let all = (0..100).map(|at| (at * 20, !(30..60).contains(&at)));
        let view = view(all, 2000);
        let expected = OutageView {
            from_ms: 29.0 * 20.0 + 1.0,
            length_ms: Some(31.0 * 20.0),
        };
        assert_eq!(view.outages, [expected]);
        assert_eq!((view.questions, view.answers), (100, 70));
    }

    #[test]
    fn answers_that_wait_in_a_queue_until_the_service_is_back_end_no_outage_early() {
        let asked_all = (0..100).map(|number| Asked {
            at: Duration::from_millis(number * 20),
            // Those of 600 to 1200 ms are all answered at 1201.
            took: Some(Duration::from_millis(match number {
                30..60 => 1201 - number * 20,
                _ => 1,
            })),
        });
        let target = Target::Tcp("10.0.0.1:1".parse().unwrap());
        let (total, interval) = (Duration::from_secs(2), Duration::from_millis(20));
        let view = judge(&target, asked_all.collect(), total, interval);
        assert_eq!(view.outages.len(), 1);
        assert_eq!(view.outages[0].length_ms, Some(620.0));
    }

    #[test]
    fn one_lost_question_is_no_outage_and_silence_to_the_end_is_one() {
        assert_eq!(
            view((0..100).map(|at| (at * 20, at != 50)), 2000).outages,
            []
        );
        let view = view((0..200).map(|at| (at * 20, at < 50)), 4000);
        assert_eq!(view.outages.len(), 1);
        assert_eq!(view.outages[0].length_ms, None);
        assert!(text(&view).contains("to the end"));
    }

    #[test]
    fn services_are_named_as_clients_do() {
        assert!(matches!(target("10.0.0.1:80"), Ok(Target::Tcp(_))));
        assert!(matches!(target("https://x/"), Ok(Target::Url(_))));
        for wrong in ["", "10.0.0.1", "x:80", "ftp://x/"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
