//! Typed access to one table of the text. Wrong types, ranges and unknown keys become findings.

use crate::finding::Findings;
use crate::words::{nearest, shown, split};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

type Value<'a> = Spanned<DeValue<'a>>;

/// Where each value stands in the text, by path (`group/web/address/ip/address`).
#[derive(Default)]
pub(crate) struct Places(RefCell<BTreeMap<String, Range<usize>>>);

impl Places {
    /// The place of `path`, or of the nearest table around it that is written out.
    pub(crate) fn of(&self, path: &str) -> Option<Range<usize>> {
        let places = self.0.borrow();
        let mut path = path;
        loop {
            if let Some(span) = places.get(path) {
                return Some(span.clone());
            }
            path = &path[..path.rfind('/')?];
        }
    }

    /// Does the text itself have something at `path`?
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.borrow().contains_key(path)
    }

    pub(crate) fn put(&self, path: String, span: Range<usize>) {
        self.0.borrow_mut().insert(path, span);
    }
}

/// One table, with the keys that were asked for so far.
pub(crate) struct Section<'a> {
    pub(crate) findings: &'a Findings,
    pub(crate) places: &'a Places,
    pub(crate) path: String,
    /// Place of its header or key.
    pub(crate) span: Range<usize>,
    table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub(crate) fn new(
        findings: &'a Findings,
        places: &'a Places,
        path: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
    ) -> Self {
        if !path.is_empty() {
            places.put(path.clone(), span.clone());
        }
        Self {
            findings,
            places,
            path,
            span,
            table,
            known: RefCell::default(),
        }
    }

    fn child(&self, key: &str, span: Range<usize>, table: &'a DeTable<'a>) -> Section<'a> {
        Section::new(self.findings, self.places, self.join(key), span, table)
    }

    pub(crate) fn join(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.path)
        }
    }

    pub(crate) fn error(&self, span: Range<usize>, message: String, help: &str) {
        self.findings.error(span, message, help);
    }

    pub(crate) fn warning(&self, span: Range<usize>, message: String, help: &str) {
        self.findings.warning(span, message, help);
    }

    /// The value of `key`, which is known from now on.
    pub(crate) fn value(&self, key: &'static str) -> Option<&'a Value<'a>> {
        self.known.borrow_mut().push(key);
        let value = self.table.get(key)?;
        self.places.put(self.join(key), value.span());
        Some(value)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Place of the value of `key`, or of the section.
    pub(crate) fn place(&self, key: &str) -> Range<usize> {
        self.table
            .get(key)
            .map_or_else(|| self.span.clone(), Spanned::span)
    }

    pub(crate) fn wrong_type(&self, key: &str, value: &Value<'_>, wanted: &str) {
        self.error(
            value.span(),
            format!(
                "`{}` must be {wanted}, this is {}",
                shown(key),
                kind(value.get_ref())
            ),
            "",
        );
    }

    pub(crate) fn missing(&self, key: &str, help: &str) {
        self.error(self.span.clone(), format!("`{key}` is missing"), help);
    }

    pub(crate) fn string(&self, key: &'static str) -> Option<(String, Range<usize>)> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value, "a string");
            return None;
        };
        self.no_nul(key, text, value.span());
        Some((text.to_owned(), value.span()))
    }

    fn no_nul(&self, key: &str, text: &str, span: Range<usize>) {
        if text.contains('\0') {
            self.error(
                span,
                format!("`{}` contains a zero character", shown(key)),
                "remove it",
            );
        }
    }

    pub(crate) fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        flag
    }

    /// A whole number within `range`.
    pub(crate) fn number<T>(&self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + Into<i64> + TryFrom<i64>,
    {
        let value = self.value(key)?;
        let Some(number) = integer(value.get_ref()) else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let (low, high) = ((*range.start()).into(), (*range.end()).into());
        if !(low..=high).contains(&number) {
            self.error(
                value.span(),
                format!("`{key}` is {number}, which is out of range"),
                &format!("give a number from {low} to {high}"),
            );
            return None;
        }
        T::try_from(number).ok()
    }

    /// A time in whole milliseconds, within `range` (in ms).
    pub(crate) fn millis(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<Duration> {
        self.number(key, range)
            .map(|ms| Duration::from_millis(u64::from(ms)))
    }

    /// A time in seconds, fractions allowed, kept to the millisecond; `range` in ms.
    pub(crate) fn seconds(
        &self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<Duration> {
        let value = self.value(key)?;
        let seconds = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            #[allow(clippy::cast_precision_loss)]
            other => integer(other).map(|n| n as f64),
        };
        let Some(seconds) = seconds else {
            self.wrong_type(key, value, "a number of seconds");
            return None;
        };
        let millis = (seconds * 1000.0).round();
        let (low, high) = (f64::from(*range.start()), f64::from(*range.end()));
        // Not a number is in no range.
        if !(low..=high).contains(&millis) {
            self.error(
                value.span(),
                format!("`{key}` is {seconds} s, which is out of range"),
                &format!("give {} to {} seconds", low / 1000.0, high / 1000.0),
            );
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(Duration::from_millis(millis as u64))
    }

    /// One word of a menu.
    pub(crate) fn choice<T: Clone>(&self, key: &'static str, menu: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        let Some(word) = value.get_ref().as_str() else {
            self.wrong_type(key, value, &format!("one of {}", words_of(menu)));
            return None;
        };
        self.pick(key, word, value.span(), menu)
    }

    pub(crate) fn pick<T: Clone>(
        &self,
        key: &str,
        word: &str,
        span: Range<usize>,
        menu: &[(&str, T)],
    ) -> Option<T> {
        if let Some((_, choice)) = menu.iter().find(|(name, _)| *name == word) {
            return Some(choice.clone());
        }
        let names: Vec<_> = menu.iter().map(|(name, _)| *name).collect();
        self.error(
            span,
            format!("`{key}` cannot be \"{}\"", shown(word)),
            &match crate::words::nearest(word, names.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("give one of {}", words_of(menu)),
            },
        );
        None
    }

    /// A list of strings, each with its place.
    pub(crate) fn strings(&self, key: &'static str) -> Option<Vec<(String, Range<usize>)>> {
        let value = self.value(key)?;
        self.strings_in(key, value)
    }

    pub(crate) fn strings_in(
        &self,
        key: &str,
        value: &Value<'_>,
    ) -> Option<Vec<(String, Range<usize>)>> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of strings");
            return None;
        };
        let mut strings = Vec::new();
        for item in array {
            match item.get_ref().as_str() {
                Some(text) => {
                    self.no_nul(key, text, item.span());
                    strings.push((text.to_owned(), item.span()));
                }
                None => self.wrong_type(key, item, "a list of strings"),
            }
        }
        Some(strings)
    }

    /// A command: a list of words, or one line that is split like a shell's. Not empty.
    pub(crate) fn command(&self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let words = match value.get_ref() {
            DeValue::String(line) => {
                self.no_nul(key, line, value.span());
                split(line)
                    .map_err(|why| {
                        let help = "close it, or write the command as a list of strings";
                        self.error(value.span(), format!("`{key}` {why}"), help);
                    })
                    .ok()?
            }
            DeValue::Array(_) => self
                .strings_in(key, value)?
                .into_iter()
                .map(|(word, _)| word)
                .collect(),
            _ => {
                self.wrong_type(key, value, "a command: a string or a list of strings");
                return None;
            }
        };
        self.check_command(key, words, value.span())
    }

    fn check_command(
        &self,
        key: &str,
        words: Vec<String>,
        span: Range<usize>,
    ) -> Option<Vec<String>> {
        let Some(program) = words.first().filter(|word| !word.is_empty()) else {
            self.error(
                span,
                format!("`{key}` is an empty command"),
                "give the path of a program and its arguments",
            );
            return None;
        };
        if !program.starts_with('/') {
            self.warning(
                span,
                format!(
                    "`{key}` names the program `{}` without a full path",
                    shown(program)
                ),
                "write the full path, so that every node runs the same program",
            );
        }
        Some(words)
    }

    /// Text read as a `T`, for addresses.
    pub(crate) fn parsed<T: FromStr>(
        &self,
        key: &'static str,
        wanted: &str,
    ) -> Option<(T, Range<usize>)> {
        let (text, span) = self.string(key)?;
        match text.parse() {
            Ok(value) => Some((value, span)),
            Err(_) => {
                self.error(span, format!("`{}` is not {wanted}", shown(&text)), "");
                None
            }
        }
    }

    /// A table inside this one.
    pub(crate) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.value(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(self.child(key, value.span(), table)),
            None => {
                self.wrong_type(key, value, &format!("a table, written [{key}]"));
                None
            }
        }
    }

    /// The tables of an array of tables (`[[key]]`).
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(
                key,
                value,
                &format!("a list of tables, each written [[{key}]]"),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (number, item) in array.iter().enumerate() {
            match item.get_ref().as_table() {
                Some(table) => {
                    sections.push(self.child(&format!("{key}/{number}"), item.span(), table));
                }
                None => self.wrong_type(key, item, &format!("tables, each written [[{key}]]")),
            }
        }
        sections
    }

    /// The tables of a table whose keys are names (`[key.NAME]`), each with the place of its name.
    pub(crate) fn named(&self, key: &'static str) -> Vec<(String, Range<usize>, Section<'a>)> {
        let Some(section) = self.section(key) else {
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in section.entries() {
            let place = name.span();
            match value.get_ref().as_table() {
                Some(table) => {
                    let child = section.child(name.get_ref(), place.clone(), table);
                    named.push((name.get_ref().to_string(), place, child));
                }
                None => section.wrong_type(name.get_ref(), value, "a table"),
            }
        }
        named
    }

    /// Every key with its value, in the order of the text.
    pub(crate) fn entries(&self) -> Vec<(&'a Spanned<toml::de::DeString<'a>>, &'a Value<'a>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        entries
    }

    /// "did you mean", or else `other`.
    pub(crate) fn meant<'w>(
        &self,
        word: &str,
        known: impl IntoIterator<Item = &'w str>,
        other: &str,
    ) -> String {
        if self.findings.full() {
            return String::new();
        }
        match nearest(word, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => other.to_owned(),
        }
    }

    /// Keys that nobody asked for are unknown.
    pub(crate) fn finish(&self) {
        let mut known = self.known.borrow().clone();
        known.sort_unstable();
        known.dedup();
        let others = format!("known are: {}", known.join(", "));
        for (key, _) in self.entries() {
            if known.iter().any(|k| k == key.get_ref()) {
                continue;
            }
            let place = match self.path.as_str() {
                "" => "at the top".to_owned(),
                path => format!("in `{}`", shown(&path.replace('/', "."))),
            };
            self.error(
                key.span(),
                format!("unknown key `{}` {place}", shown(key.get_ref())),
                &self.meant(key.get_ref(), known.iter().copied(), &others),
            );
        }
    }
}

/// The whole number in a value; it fits in an `i64`.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn words_of<T>(menu: &[(&str, T)]) -> String {
    let names: Vec<_> = menu.iter().map(|(n, _)| format!("\"{n}\"")).collect();
    names.join(", ")
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The network part of an address.
pub(crate) fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix.min(32)))
                .unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(prefix.min(128)))
                .unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}
