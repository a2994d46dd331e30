//! What the check has to say about a text: where, how bad, what is wrong, and what to do.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;
use std::cell::RefCell;
use std::ops::Range;

/// Findings that are shown of one text; bounds the work for a hostile one.
pub const MAX_FINDINGS: usize = 200;

/// How bad a finding is. Only errors refuse the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The text is refused.
    Error,
    /// Accepted, but it costs safety or availability.
    Warning,
    /// Worth knowing.
    Advice,
}

/// One thing the check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// Name of the text, as given to the check.
    pub file: String,
    /// From 1; 0 when the finding concerns the text as a whole.
    pub line: usize,
    /// In characters, from 1; 0 when the finding concerns the text as a whole.
    pub column: usize,
    /// Bytes of the text; `None` when the finding concerns the text as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Findings while they are collected. Shared by every reader of one text.
#[derive(Default)]
pub(crate) struct Findings(RefCell<Vec<Finding>>);

impl Findings {
    pub(crate) fn error(&self, span: impl Into<Option<Range<usize>>>, message: String, help: &str) {
        self.add(Severity::Error, span.into(), message, help);
    }

    pub(crate) fn warning(
        &self,
        span: impl Into<Option<Range<usize>>>,
        message: String,
        help: &str,
    ) {
        self.add(Severity::Warning, span.into(), message, help);
    }

    pub(crate) fn advice(
        &self,
        span: impl Into<Option<Range<usize>>>,
        message: String,
        help: &str,
    ) {
        self.add(Severity::Advice, span.into(), message, help);
    }

    /// More would not be shown; spares the work for further suggestions.
    pub(crate) fn full(&self) -> bool {
        self.0.borrow().len() > MAX_FINDINGS
    }

    /// Is there an error so far?
    pub(crate) fn refused(&self) -> bool {
        any_error(&self.0.borrow())
    }

    fn add(&self, severity: Severity, span: Option<Range<usize>>, message: String, help: &str) {
        self.0.borrow_mut().push(Finding {
            severity,
            file: String::new(),
            line: 0,
            column: 0,
            span,
            message,
            help: (!help.is_empty()).then(|| help.to_owned()),
        });
    }

    /// Sorted by place, with line and column in `text`; findings about the whole come last.
    /// At most [`MAX_FINDINGS`], and one that says so: an error is never lost by the limit.
    pub(crate) fn finish(self, file_name: &str, text: &str) -> Vec<Finding> {
        let mut findings = self.0.into_inner();
        findings.sort_by_key(|f| {
            let start = f.span.as_ref().map_or(usize::MAX, |span| span.start);
            (start, f.severity)
        });
        findings.dedup();
        if findings.len() > MAX_FINDINGS {
            let dropped = findings.split_off(MAX_FINDINGS);
            let worst = dropped.iter().map(|f| f.severity).min();
            let rest = Self::default();
            let message = format!("{} more findings are not shown", dropped.len());
            let severity = worst.unwrap_or(Severity::Advice);
            rest.add(severity, None, message, "mend these first");
            findings.extend(rest.0.into_inner());
        }
        for finding in &mut findings {
            finding.locate(text);
            file_name.clone_into(&mut finding.file);
        }
        findings
    }
}

impl Finding {
    fn locate(&mut self, text: &str) {
        let Some(span) = &mut self.span else { return };
        let start = floor_char(text, span.start.min(text.len()));
        let end = floor_char(text, span.end.min(text.len())).max(start);
        *span = start..end;
        let before = &text[..start];
        self.line = before.matches('\n').count() + 1;
        self.column = before[before.rfind('\n').map_or(0, |at| at + 1)..]
            .chars()
            .count()
            + 1;
    }
}

/// The greatest character boundary at or below `at`.
fn floor_char(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

/// Is there an error among them?
#[must_use]
pub fn any_error(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.severity == Severity::Error)
}

/// The findings as text for people, with the lines they concern; `color` adds terminal colours.
#[must_use]
pub fn render(findings: &[Finding], file_name: &str, text: &str, color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut out = String::new();
    for finding in findings {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Advice => Level::NOTE.with_name("advice"),
        };
        let mut group = annotate_snippets::Group::with_title(level.primary_title(&finding.message));
        if let Some(span) = &finding.span {
            group = match line_of(text, span) {
                Some((line, within)) => group.element(
                    Snippet::source(line)
                        .line_start(finding.line)
                        .path(file_name)
                        .annotation(AnnotationKind::Primary.span(within)),
                ),
                None => group.element(
                    Origin::path(file_name)
                        .line(finding.line)
                        .char_column(finding.column),
                ),
            };
        }
        if let Some(help) = &finding.help {
            group = group.element(Level::HELP.message(help));
        }
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    out
}

/// Longest line that is drawn, in bytes.
const MAX_LINE: usize = 4096;

/// The line a span begins on, and the part of the span that is on it: a section needs no drawing in
/// full. `None` when the line is too long to be drawn.
fn line_of<'a>(text: &'a str, span: &Range<usize>) -> Option<(&'a str, Range<usize>)> {
    let start = floor_char(text, span.start.min(text.len()));
    let first = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let last = text[start..].find('\n').map_or(text.len(), |at| start + at);
    if last - first > MAX_LINE {
        return None;
    }
    let end = floor_char(text, span.end.clamp(start, last)).max(start);
    Some((&text[first..last], start - first..end - first))
}
