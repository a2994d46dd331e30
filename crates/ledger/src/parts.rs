//! Where the time from a power cut to the first commit goes, by what the node that took over writes.

use crate::round::ms;
use crate::scene::{GROUP, Scene};
use serde::Serialize;

/// Moments in ms after the cut, each none where nothing was written about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Parts {
    /// The cluster has agreed on the other node.
    pub decided_ms: Option<f64>,
    /// The old node's lease is over: the first resource is started.
    pub starting_ms: Option<f64>,
    /// The mirror's device is there.
    pub device_ms: Option<f64>,
    /// Its filesystem is mounted, its journal replayed.
    pub mounted_ms: Option<f64>,
    /// The database's start program has begun.
    pub server_ms: Option<f64>,
    /// The server itself has begun.
    pub recovering_ms: Option<f64>,
    /// It has recovered and takes connections.
    pub ready_ms: Option<f64>,
}

/// Names and moments of files that are written on the way, then the server's log, in seconds since
/// 1970.
const LOOK: &str = "cd /run/hotpair; \
    stat -c 'device %.6Z' devices/db/data; stat -c 'mounted %.6Y' resources/db/files.json; \
    stat -c 'server %.6Y' resources/db/server.json; \
    tail -n 4000 /var/lib/hotpair/log/db.server.log | grep -aE 'starting PostgreSQL|ready to accept connections' | \
    while read -r day time zone rest; do case $rest in *starting*) w=recovering ;; *) w=ready ;; esac; \
    echo \"$w $(date -d \"$day $time $zone\" +%s.%6N)\"; done; true";

impl Scene {
    /// The moments by the account of the node that took over.
    pub(crate) fn parts(&self, node: &str, cut_wall_us: i128) -> Parts {
        let mut parts = Parts::default();
        for event in self.events(node).unwrap_or_default() {
            let time = event.time.parse::<jiff::Timestamp>();
            let Ok(time) = time.map(|t| t.as_nanosecond() / 1000) else {
                continue;
            };
            let (text, ours) = (event.text, event.group.as_deref() == Some(GROUP));
            match ours {
                true if text.starts_with("moves from") => {
                    first(&mut parts.decided_ms, time, cut_wall_us);
                }
                true if text.starts_with("starting on") => {
                    first(&mut parts.starting_ms, time, cut_wall_us);
                }
                _ => {}
            }
        }
        let look = self.run(node, &["sh", "-c", LOOK]).unwrap_or_default();
        for line in look.lines() {
            if let Some((what, time_us)) = moment(line) {
                let part = match what {
                    "device" => &mut parts.device_ms,
                    "mounted" => &mut parts.mounted_ms,
                    "server" => &mut parts.server_ms,
                    "recovering" => &mut parts.recovering_ms,
                    _ => &mut parts.ready_ms,
                };
                first(part, time_us, cut_wall_us);
            }
        }
        parts
    }
}

/// Notes a moment, if it is the first one after the cut.
fn first(part: &mut Option<f64>, time_us: i128, cut_us: i128) {
    if let (None, Ok(after)) = (&part, u64::try_from(time_us - cut_us)) {
        *part = Some(ms(after));
    }
}

/// `WORD SECONDS.MICROSECONDS`
fn moment(line: &str) -> Option<(&str, i128)> {
    let (what, time) = line.split_once(' ')?;
    let (seconds, micros) = time.split_once('.')?;
    let micros = format!("{micros:0<6}");
    let micros: i128 = micros.get(..6)?.parse().ok()?;
    Some((what, seconds.parse::<i128>().ok()? * 1_000_000 + micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_moment_after_the_cut_counts() {
        assert_eq!(moment("ready 7.25"), Some(("ready", 7_250_000)));
        assert_eq!(moment("stat: cannot stat"), None);
        let mut part = None;
        for time in [5_000, 11_500, 12_000] {
            first(&mut part, time, 10_000);
        }
        assert_eq!(part, Some(1.5));
    }
}
