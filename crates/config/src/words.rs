//! Words in configuration text: names, command lines, and near misses.

/// The rule for names of clusters, nodes, links, groups and resources.
pub(crate) const NAME_RULE: &str =
    "a name has 1 to 63 of a-z, 0-9, '-', '_' and '.', and starts with a letter or digit";

/// Is this a name by [`NAME_RULE`]? Such a name is safe in paths, cgroups and file names.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63
        && text.chars().next().is_some_and(plain)
        && text.chars().all(|c| plain(c) || "-_.".contains(c))
}

/// Splits a command line as a shell does, without any of its expansions.
///
/// Blanks separate words; `'…'` is literal; in `"…"` and outside, `\` takes the next character as
/// it is (inside `"…"` only before `"` and `\`).
///
/// # Errors
/// A quote that is not closed, or a `\` at the end.
pub(crate) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => {
                let next = chars.next().ok_or("ends with a lone `\\`")?;
                word.get_or_insert_default().push(next);
            }
            '\'' | '"' => quoted(c, &mut chars, word.get_or_insert_default())?,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(
    quote: char,
    chars: &mut std::str::Chars<'_>,
    word: &mut String,
) -> Result<(), &'static str> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next() {
                Some(next @ ('"' | '\\')) => word.push(next),
                Some(next) => word.extend(['\\', next]),
                None => break,
            },
            c => word.push(c),
        }
    }
    Err("has a quote that is not closed")
}

/// Of `known`, the one `word` was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + word.chars().count() / 4;
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words; long words are not near.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Units of sizes, the largest first; the first of each value is the one that is written.
const UNITS: [(&str, u64); 11] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

/// Bytes of `10GiB`, `512 MiB`, `4096B`: a whole number and a unit.
///
/// # Errors
/// What is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - digits.len()];
    let unit = digits.trim_start();
    if number.is_empty() {
        return Err("does not begin with a whole number");
    }
    if unit.is_empty() {
        return Err("has no unit");
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("has an unknown unit");
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or("is too large")
}

/// Bytes as [`parse_size`] reads them, in the largest unit that leaves a whole number.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, factor) = UNITS
        .iter()
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Longest path, as the kernel has it (PATH_MAX, with its closing zero).
const MAX_PATH: usize = 4095;

/// A full path without empty parts, `.` and `..`: the only form whose nesting can be told from the
/// text. `Err` says what to write instead.
pub(crate) fn plain_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("begin it with `/`".to_owned());
    }
    if path.len() > MAX_PATH {
        return Err(format!("give at most {MAX_PATH} bytes"));
    }
    if path == "/" {
        return Ok(());
    }
    let parts: Vec<_> = path
        .split('/')
        .filter(|p| !p.is_empty() && *p != ".")
        .collect();
    if parts.contains(&"..") {
        return Err("write it without `..`".to_owned());
    }
    let plain = format!("/{}", parts.join("/"));
    if plain != path {
        return Err(format!("write `{}`", shown(&plain)));
    }
    Ok(())
}

/// Is `path` at `dir` or below it? Both plain.
pub(crate) fn is_below(path: &str, dir: &str) -> bool {
    dir == "/"
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Text from outside as it may be shown in a message: no control characters, not endless.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_a_command_line_like_a_shell() {
        let words = split(r#"/bin/x --a 'b  c' "d \"e\" \n" f\ g '' "#).unwrap();
        assert_eq!(
            words,
            ["/bin/x", "--a", "b  c", r#"d "e" \n"#, "f g", ""].map(String::from)
        );
        assert_eq!(split("  ").unwrap(), Vec::<String>::new());
        assert!(split("a 'b").is_err());
        assert!(split("a \"b\\").is_err());
        assert!(split("a\\").is_err());
    }

    #[test]
    fn a_name_cannot_leave_its_directory() {
        assert!(is_name("web-1.example_x"));
        for bad in ["", ".", "..", "-x", "a/b", "A", "a b", &"x".repeat(64), "ü"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit_and_written_in_the_largest_that_fits() {
        for (text, bytes) in [
            ("10GiB", 10 << 30),
            ("512 MiB", 512 << 20),
            ("4096B", 4096),
            ("1MB", 1_000_000),
            ("1kB", 1000),
            ("3PiB", 3 << 50),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(parse_size(&size(bytes)), Ok(bytes), "{text}");
        }
        assert_eq!(size(10 << 30), "10GiB");
        assert_eq!(size(0), "0B");
        for bad in [
            "",
            "10",
            "GiB",
            "-1GiB",
            "1.5GiB",
            "1gib",
            "99999999PiB",
            "1 GiB x",
            "９GiB",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_is_below_another_by_whole_parts() {
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a") && is_below("/a", "/"));
        assert!(!is_below("/ab", "/a") && !is_below("/a", "/a/b"));
        let long = "/a".repeat(3000);
        for bad in ["a", "/a/", "//a", "/a/../b", "/a/./b", "", "/..", &long] {
            assert!(plain_path(bad).is_err(), "{bad}");
        }
        assert_eq!(plain_path("/a/b"), Ok(()));
    }

    #[test]
    fn finds_the_word_that_was_meant() {
        assert_eq!(
            nearest("hearbeat_ms", ["heartbeat_ms", "lease_ms"]),
            Some("heartbeat_ms")
        );
        assert_eq!(nearest("ndoes", ["nodes", "start"]), Some("nodes"));
        assert_eq!(nearest("colour", ["nodes", "start"]), None);
    }
}
