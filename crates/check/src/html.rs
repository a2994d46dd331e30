//! The report as one page that needs nothing from anywhere else.

use crate::rules::{Report, Severity};
use std::fmt::Write;

/// A whole page. `title` is most often the cluster's name, `when` a time.
#[must_use]
pub fn html(report: &Report, title: &str, when: &str) -> String {
    let mut out = String::from(HEAD);
    let title = escape(title);
    let _ = write!(
        out,
        "<title>hotpair check: {title}</title></head><body><h1>hotpair check: {title}</h1>\
         <p>{}, hosts: {}. {} errors, {} warnings, {} findings in all.</p>",
        escape(when),
        escape(&report.hosts.join(", ")),
        report.errors,
        report.warnings,
        report.findings.len(),
    );
    if report.findings.is_empty() {
        out.push_str("<p>Nothing was found.</p>");
    } else {
        out.push_str("<table><thead><tr><th>Severity<th>Where<th>What is wrong<th>What to do<th>Rule</tr></thead><tbody>");
        for finding in &report.findings {
            let class = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Advice => "advice",
            };
            let _ = write!(
                out,
                "<tr><td class=\"{class}\">{class}<td>{}<td>{}<td>{}<td>{}</tr>",
                escape(&finding.at),
                escape(&finding.message),
                escape(&finding.help),
                finding.id,
            );
        }
        out.push_str("</tbody></table>");
    }
    out.push_str("</body></html>\n");
    out
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\"><style>\
    body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1f24;background:#fff}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #c9d1d9}\
    .error{color:#a40e26;font-weight:600}.warning{color:#7a4b00;font-weight:600}.advice{color:#0550ae}</style>";

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
