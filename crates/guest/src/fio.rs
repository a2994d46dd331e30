//! fio in a guest: four loads for block devices, and what came of them.

use crate::error::{GuestError, Result};
use crate::guest::Guest;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// A load: direct I/O by one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Its name in figures.
    pub name: &'static str,
    /// As fio calls it.
    pub pattern: &'static str,
    /// Bytes of a request.
    pub block: u32,
    /// Requests at the same time.
    pub depth: u32,
}

/// 4 KiB random writes one at a time and 32 at a time, 1 MiB sequential writes and reads.
pub const LOADS: [Load; 4] = [
    Load {
        name: "write-4k-1",
        pattern: "randwrite",
        block: 4096,
        depth: 1,
    },
    Load {
        name: "write-4k-32",
        pattern: "randwrite",
        block: 4096,
        depth: 32,
    },
    Load {
        name: "write-1m",
        pattern: "write",
        block: 1 << 20,
        depth: 4,
    },
    Load {
        name: "read-1m",
        pattern: "read",
        block: 1 << 20,
        depth: 4,
    },
];

/// What a load gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The load's name.
    pub load: &'static str,
    /// Requests in a second.
    pub iops: f64,
    /// MiB in a second.
    pub mib_per_s: f64,
    /// Time from submission to completion of the request in the middle.
    pub median_us: f64,
    /// And of the slowest in a hundred.
    pub p99_us: f64,
}

/// Runs a load on a device for some seconds of the guest's time.
pub fn run(guest: &Guest, device: &str, load: Load, seconds: u32) -> Result<Figures> {
    let Load {
        name,
        pattern,
        block,
        depth,
    } = load;
    let script = format!(
        "cd /tmp && fio --name={name} --filename={device} --rw={pattern} --bs={block} --iodepth={depth} \
         --ioengine=libaio --direct=1 --thread --time_based --runtime={seconds} --norandommap --randseed=1 \
         --output-format=json"
    );
    let text = guest.run(&script, Duration::from_secs(u64::from(seconds) + 120))?;
    read(name, pattern.ends_with("write"), &text)
}

/// Reads fio's JSON; warnings may stand before it.
fn read(load: &'static str, writes: bool, text: &str) -> Result<Figures> {
    let bad = |problem: String| GuestError::BadOutput {
        program: "fio",
        problem,
    };
    let start = text.find('{').ok_or_else(|| bad("no JSON".to_owned()))?;
    let all: Value = serde_json::from_str(&text[start..]).map_err(|e| bad(e.to_string()))?;
    let job = &all["jobs"][0];
    if job["error"].as_i64() != Some(0) {
        return Err(bad(format!("error {}", job["error"])));
    }
    let side = &job[if writes { "write" } else { "read" }];
    let number =
        |value: &Value, name: &str| value.as_f64().ok_or_else(|| bad(format!("no {name}")));
    let percentile =
        |at: &str| number(&side["clat_ns"]["percentile"][at], at).map(|ns| ns / 1000.0);
    Ok(Figures {
        load,
        iops: number(&side["iops"], "iops")?,
        mib_per_s: number(&side["bw_bytes"], "bw_bytes")? / f64::from(1 << 20),
        median_us: percentile("50.000000")?,
        p99_us: percentile("99.000000")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"fio: a warning
        {"jobs": [{"error": 0, "write": {"iops": 200.5, "bw_bytes": 2097152,
        "clat_ns": {"percentile": {"50.000000": 4000, "99.000000": 9000}}}}]}"#;

    #[test]
    fn reads_figures_after_a_warning() {
        let figures = read("load", true, TEXT).expect("figures");
        let expected = Figures {
            load: "load",
            iops: 200.5,
            mib_per_s: 2.0,
            median_us: 4.0,
            p99_us: 9.0,
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in [
            "",
            "{}",
            "{\"jobs\": []}",
            &TEXT.replace("\"error\": 0", "\"error\": 5"),
            &TEXT[..90],
        ] {
            assert!(read("load", true, text).is_err(), "{text} was taken");
        }
        assert!(
            read("load", false, TEXT).is_err(),
            "there are no figures of reads"
        );
    }
}
