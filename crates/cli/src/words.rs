//! Values on the command line: `NAME=IP[:PORT]`, times.

use std::io::{BufRead, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A name and an address: `lan=10.0.0.1`, `lan=[fd00::1]:14338`.
pub fn named_address(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, given) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` has no `=`: write NAME=IP or NAME=IP:PORT"))?;
    if name.is_empty() {
        return Err(format!("`{text}` has no name before the `=`"));
    }
    Ok((name.to_owned(), address(given)?))
}

/// An address, with the usual port if none is given.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, hotpair_config::PORT));
    }
    text.parse().map_err(|_| {
        format!(
            "`{text}` is no address: write 10.0.0.1, 10.0.0.1:14338, fd00::1 or [fd00::1]:14338"
        )
    })
}

/// A time: `90`, `90s`, `10m`, `1h`, `2d`; at most a year.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write 90s, 10m, 1h or 2d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = number
        .checked_mul(unit)
        .filter(|s| (1..=31_536_000).contains(s));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("`{text}` is not between 1 s and 365 d"))
}

/// A token, or `-`: the first line of standard input, which nobody else can read as they can a command line.
pub fn token(text: &str) -> Result<String, String> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut line = Vec::new();
    let mut input = std::io::stdin().lock().take(TOKEN_LIMIT);
    let read = input.read_until(b'\n', &mut line);
    read.map_err(|error| format!("standard input cannot be read: {error}"))?;
    let text = String::from_utf8_lossy(&line).trim().to_owned();
    if text.is_empty() {
        return Err("standard input holds no token".to_owned());
    }
    Ok(text)
}

/// More than any token has.
const TOKEN_LIMIT: u64 = 64 * 1024;

/// An amount of bytes, as in the configuration: `512MiB`, `20GiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    hotpair_config::parse_size(text)
        .map_err(|why| format!("`{text}` {why}: write 512MiB, 20GiB or 1TiB"))
}

/// Bytes for people: `20 GiB`, `1.5 MiB`.
pub fn shown_bytes(bytes: u64) -> String {
    for (unit, name) in [
        (1u64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ] {
        if bytes >= unit {
            if bytes.is_multiple_of(unit) {
                return format!("{} {name}", bytes / unit);
            }
            let tenths = bytes / (unit / 10).max(1);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// A rough time for people: `45 s`, `12 min`, `3 h 20 min`.
pub fn shown_duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A moment in milliseconds since 1970, for people.
pub fn shown_time(milliseconds: u64) -> String {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
        .map_or_else(|| "unknown".into(), |at| at.to_string())
}

/// Seconds for people: `1 h`, `90 s`.
pub fn shown(seconds: u64) -> String {
    for (unit, name) in [(86_400, "d"), (3600, "h"), (60, "min")] {
        if seconds >= unit && seconds.is_multiple_of(unit) {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{seconds} s")
}

/// A node's name from the host's: without domain, lower case.
pub fn host_name() -> String {
    let found = rustix::system::uname();
    let found = found.nodename().to_string_lossy();
    found
        .split('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_without_port_gets_the_usual_one() {
        let lan = named_address("lan=10.0.0.1").unwrap();
        assert_eq!(lan, ("lan".to_owned(), "10.0.0.1:14338".parse().unwrap()));
        assert_eq!(
            address("fd00::1").unwrap(),
            "[fd00::1]:14338".parse().unwrap()
        );
        assert_eq!(
            address("[fd00::1]").unwrap(),
            "[fd00::1]:14338".parse().unwrap()
        );
        assert_eq!(
            address("[fd00::1]:9").unwrap(),
            "[fd00::1]:9".parse().unwrap()
        );
        assert_eq!(
            address("10.0.0.1:9").unwrap(),
            "10.0.0.1:9".parse().unwrap()
        );
    }

    #[test]
    fn bad_addresses_are_refused_with_an_example() {
        for bad in [
            "",
            "lan",
            "=10.0.0.1",
            "lan=",
            "lan=host",
            "lan=10.0.0.1:99999",
            "lan=1.2.3",
        ] {
            assert!(named_address(bad).is_err(), "{bad}");
        }
        assert!(
            named_address("lan=host")
                .unwrap_err()
                .contains("10.0.0.1:14338")
        );
    }

    #[test]
    fn times_have_units_and_bounds() {
        assert_eq!(time("90").unwrap(), Duration::from_secs(90));
        assert_eq!(time("1h").unwrap(), Duration::from_secs(3600));
        for bad in [
            "",
            "h",
            "0",
            "-1s",
            "1w",
            "1.5h",
            "366d",
            "99999999999999999999d",
            "1hé",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (bytes("20GiB"), bytes("1 TB"), bytes("4 KiB")),
            (Ok(20 << 30), Ok(1_000_000_000_000), Ok(4096))
        );
        for bad in ["", "GiB", "-1", "1XB", "99999999TiB", "1.5GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(shown_bytes(20 << 30), "20 GiB");
        assert_eq!(shown_bytes(1_572_864), "1.5 MiB");
        assert_eq!(
            (shown(3600), shown(90), shown(120)),
            ("1 h".into(), "90 s".into(), "2 min".into())
        );
    }
}
