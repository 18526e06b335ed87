//! What fuzz targets call; no part of the interface.

use crate::{
    admit,
    logs::{journal::Journal, pull},
    types::{Create, Limits, LogLine},
};

/// Whether a request for a sandbox makes sense.
pub fn admits(request: &Create, limits: &Limits) -> bool {
    admit::check(request, limits).is_ok()
}

/// The log lines in an agent's answer as a journal keeps them; `None` for what is no answer.
pub fn log_lines(answer: &[u8], since: u64) -> Option<Vec<LogLine>> {
    let (lines, _) = pull::read(answer, since).ok()?;
    let journal = Journal::default();
    journal.extend(lines);
    Some(journal.lines())
}
