//! Everything that a command prints: results on stdout, the rest on stderr.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::{Failure, Result};

/// How to print, decided once.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
    colour: Colour,
}

/// Whether each stream may carry colours: a terminal, and `NO_COLOR` not set.
#[derive(Debug, Clone, Copy)]
struct Colour {
    out: bool,
    err: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Warning,
    Bad,
    Quiet,
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Quiet => "2",
            Self::Strong => "1",
        }
    }
}

impl Output {
    pub fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colour = Colour {
            out: wanted && io::stdout().is_terminal(),
            err: wanted && io::stderr().is_terminal(),
        };
        Self { json, colour }
    }

    /// Whether stderr is a terminal that understands colours and redrawing.
    pub fn lively(&self) -> bool {
        self.colour.err && !self.json
    }

    /// Coloured for stdout.
    pub fn tint(&self, tone: Tone, text: impl Display) -> String {
        paint(self.colour.out, tone, text)
    }

    /// One line on stdout.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn line(&self, text: impl Display) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(gone)
    }

    /// One JSON value on stdout, readable.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn value(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::Protocol(error.to_string()))?;
        self.line(text)
    }

    /// One JSON value on one line, for streams of them.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn record(&self, value: &impl Serialize) -> Result<()> {
        let text =
            serde_json::to_string(value).map_err(|error| Failure::Protocol(error.to_string()))?;
        self.line(text)
    }

    /// A table on stdout, as wide as the terminal; without a terminal, one row is one line.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn table(&self, header: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.to_vec());
        if io::stdout().is_terminal() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.add_rows(rows);
        // Each cell has a blank on either side.
        let lines = table.lines().map(|line| {
            let line = line.trim_end();
            line.strip_prefix(' ').unwrap_or(line).to_owned()
        });
        self.line(lines.collect::<Vec<_>>().join("\n"))
    }

    /// A remark on stderr; silent with `--json`.
    pub fn note(&self, text: impl Display) {
        if !self.json {
            // A closed stderr is no reason to fail.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    pub fn failure(&self, failure: &Failure) {
        let mut err = io::stderr().lock();
        if let (Failure::Project(diagnostics), false) = (failure, self.json) {
            let _ = writeln!(err, "{}", diagnostics.render(self.colour.err));
        }
        let _ = if self.json {
            writeln!(err, "{}", failure.to_json())
        } else {
            let label = paint(self.colour.err, Tone::Bad, "error");
            let code = paint(self.colour.err, Tone::Quiet, format!("[{}]", failure.code()));
            writeln!(err, "{label}: {failure} {code}").and_then(|()| match failure.hint() {
                Some(hint) => {
                    writeln!(err, "  {}: {hint}", paint(self.colour.err, Tone::Strong, "hint"))
                }
                None => Ok(()),
            })
        };
    }
}

fn paint(on: bool, tone: Tone, text: impl Display) -> String {
    if on { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_string() }
}

/// Whoever read our stdout went away: end as a program that SIGPIPE ended would.
pub fn gone(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Exit(141),
        _ => Failure::Io { context: "stdout".into(), source: error },
    }
}

/// Text from a sandbox or a server without what could drive the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// `1.5 GiB`, for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = count as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn escapes_of_a_sandbox_do_not_reach_the_terminal() {
        assert_eq!(plain("a\x1b[31mb\tc\u{9b}"), "a\u{fffd}[31mb\tc\u{fffd}");
    }
}
