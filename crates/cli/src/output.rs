//! Printing: colours where a person reads, columns, and no panic when the reader has gone.

use std::io::{IsTerminal, Write};

/// Colours, or none: only on a terminal, and never with `NO_COLOR` set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ink {
    pub on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Green,
    Blue,
    Yellow,
    Red,
    Cyan,
    Magenta,
    Grey,
    Bold,
}

impl Ink {
    pub fn of_terminal() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            on: !refused && !dumb && std::io::stdout().is_terminal(),
        }
    }

    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.on || text.is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => "32",
            Colour::Blue => "34",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Cyan => "36",
            Colour::Magenta => "35",
            Colour::Grey => "90",
            Colour::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A state in its colour.
    pub fn state(self, state: &str) -> String {
        self.paint(colour_of(state), state)
    }

    /// A state in its colour, followed by blanks up to `width`.
    pub fn padded(self, state: &str, width: usize) -> String {
        let blanks = width.saturating_sub(state.chars().count());
        format!("{}{}", self.state(state), " ".repeat(blanks))
    }
}

/// Colours of states: active green, standby blue, unfit grey, trouble yellow and red.
fn colour_of(state: &str) -> Colour {
    match state {
        "online" | "up" | "running" | "active" | "cleared" => Colour::Green,
        "standby" | "own" => Colour::Blue,
        "warning" | "silent" | "degraded" => Colour::Yellow,
        "down" | "failed" | "cannot run" | "error" => Colour::Red,
        "starting" | "stopping" => Colour::Cyan,
        "maintenance" => Colour::Magenta,
        _ => Colour::Grey,
    }
}

/// Text from the daemon that may come from programs: no control characters reach the terminal.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Prints to standard output. A reader that has gone (`hotpair events | head`) ends the command.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        std::process::exit(0);
    }
}

/// Columns as wide as their widest cell; the last one is as it is.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; count];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
