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
    fn finds_the_word_that_was_meant() {
        assert_eq!(
            nearest("hearbeat_ms", ["heartbeat_ms", "lease_ms"]),
            Some("heartbeat_ms")
        );
        assert_eq!(nearest("ndoes", ["nodes", "start"]), Some("nodes"));
        assert_eq!(nearest("colour", ["nodes", "start"]), None);
    }
}
