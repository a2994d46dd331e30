//! Takes secrets out of text.

use regex_lite::Regex;
use std::sync::LazyLock;

const GONE: &str = "[removed]";

/// A name that promises a secret, and what it is set to: `password = "x"`, `--token x`, `DB_PASSWORD: x`.
static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)([a-z0-9_.-]*(?:passw(?:or)?d|passphrase|passwd|pwd|secret|token|credential|api[_-]?key|private[_-]?key)[a-z0-9_-]*["']?(?:\s*[=:,]\s*|\s+))("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"',;}]+)"#,
    )
    .ok()
});
/// `scheme://user:password@host`.
static IN_URL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)([a-z][a-z0-9+.-]*://[^/@\s:]*):[^/@\s]+@").ok());
/// A token of hotpair's, wherever it is.
static TOKEN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"hp1-[A-Za-z0-9_-]{20,}").ok());

/// The text without what looks like a secret. Better too much is taken than too little.
pub fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        let begins = line.contains("-----BEGIN ") && line.contains("PRIVATE KEY");
        if begins && !in_key {
            out.push_str(GONE);
            out.push('\n');
        }
        in_key |= begins;
        if !in_key {
            out.push_str(&scrub_line(line));
        }
        in_key &= !line.contains("-----END ");
    }
    out
}

fn scrub_line(line: &str) -> String {
    let mut line = line.to_owned();
    // A pattern that cannot be read would let everything through.
    let (Some(named), Some(in_url), Some(token)) = (&*NAMED, &*IN_URL, &*TOKEN) else {
        return format!("{GONE}\n");
    };
    line = token.replace_all(&line, GONE).into_owned();
    line = in_url
        .replace_all(&line, format!("$1:{GONE}@"))
        .into_owned();
    named
        .replace_all(&line, format!("${{1}}{GONE}"))
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_and_the_rest_stays() {
        for secret in [
            "password = \"hunter2\"",
            "variables = { DB_PASSWORD = \"hunter2\", PGDATA = \"/x\" }",
            "\"api_key\": \"hunter2\",",
            "psql --password hunter2 -h x",
            "start = [\"x\", \"--token\", \"hunter2\"]",
            "MYSQL_PWD=hunter2 mysqldump",
            "http://admin:hunter2@10.0.0.1/status",
            "secret: 'hunter2'",
            "PASSPHRASE: hunter2",
            "password = \"it \\\"is hunter2\"",
        ] {
            let out = scrub(secret);
            assert!(!out.contains("hunter2"), "{secret} -> {out}");
            assert!(out.contains(GONE), "{out}");
        }
        for plain in [
            "node1 took db over: lease of node2 ended\n",
            "address = \"10.0.0.1/24\"\n",
            "http://10.0.0.1:80/\n",
        ] {
            assert_eq!(scrub(plain), plain);
        }
        assert!(scrub("x = { DB_PASSWORD = \"a\", PGDATA = \"/x\" }").contains("PGDATA = \"/x\""));
    }

    #[test]
    fn keys_are_taken_whole_and_tokens_wherever_they_are() {
        let text =
            "a\n-----BEGIN EC PRIVATE KEY-----\nMIIB\nAAAA\n-----END EC PRIVATE KEY-----\nb\n";
        assert_eq!(scrub(text), format!("a\n{GONE}\nb\n"));
        let torn = "-----BEGIN PRIVATE KEY-----\nMIIB\nAAAA\n";
        assert!(!scrub(torn).contains("MIIB"));
        let token = format!("run hotpair join hp1-{} there", "Ab9_".repeat(20));
        assert_eq!(scrub(&token), format!("run hotpair join {GONE} there"));
    }
}
