//! What the agent tells about itself: a bounded ring of lines that the server collects.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::{Query, State as Shared},
    http::{Response, StatusCode},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{State, reply};

const MAX_LINES: usize = 1000;
const MAX_BYTES: usize = 1 << 20;
/// The longest message or field that is kept, in bytes.
const MAX_TEXT: usize = 4 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Counts up from 0 without gaps.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    pub level: Level,
    pub message: String,
    pub fields: BTreeMap<&'static str, String>,
}

impl Line {
    fn size(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(key, value)| key.len() + value.len()).sum();
        size_of::<Self>() + self.message.len() + fields
    }
}

/// Lines from a sequence number on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Ask for this sequence number next.
    pub next: u64,
    pub lines: Vec<Line>,
}

/// At most 1000 lines and 1 MiB; the oldest make room.
#[derive(Debug, Default)]
pub struct Log(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    next: u64,
}

impl Log {
    /// Adds a line; long texts are cut.
    pub fn add<const N: usize>(
        &self,
        level: Level,
        message: &str,
        fields: [(&'static str, String); N],
    ) {
        let timestamp_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        let fields = fields.into_iter().map(|(key, value)| (key, cut(value))).collect();
        let message = cut(message.to_owned());
        let mut ring = self.0.lock();
        let line = Line { seq: ring.next, timestamp_ms, level, message, fields };
        ring.next += 1;
        ring.bytes += line.size();
        ring.lines.push_back(line);
        while ring.lines.len() > MAX_LINES || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.lines.pop_front() else { break };
            ring.bytes -= oldest.size();
        }
    }

    /// At most `limit` lines, the oldest first, that are still kept and not older than `since`.
    pub fn since(&self, since: u64, limit: usize) -> Page {
        let ring = self.0.lock();
        let lines: Vec<Line> =
            ring.lines.iter().filter(|line| line.seq >= since).take(limit).cloned().collect();
        Page { next: lines.last().map_or(ring.next, |line| line.seq + 1), lines }
    }
}

/// Which lines are asked for.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    #[serde(default)]
    since: u64,
    #[serde(default = "Wanted::default_limit")]
    limit: usize,
}

impl Wanted {
    fn default_limit() -> usize {
        MAX_LINES
    }
}

/// `GET /soulbox/logs?since=<seq>&limit=<count>`, for the server alone.
pub async fn page(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<Wanted>,
) -> Response<Body> {
    reply::json(StatusCode::OK, &state.log.since(wanted.since, wanted.limit))
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_lines_within_bounds() {
        let log = Log::default();
        for n in 0..3000 {
            log.add(Level::Info, "a line", [("n", n.to_string())]);
        }
        let page = log.since(0, usize::MAX);
        assert_eq!(page.lines.len(), MAX_LINES);
        assert_eq!((page.lines[0].seq, page.next), (2000, 3000));

        for _ in 0..600 {
            log.add(Level::Warn, &"x".repeat(1 << 20), []);
        }
        let kept: usize = log.since(0, usize::MAX).lines.iter().map(Line::size).sum();
        assert!(kept <= MAX_BYTES, "{kept}");
    }

    #[test]
    fn pages_continue_where_the_last_ended() {
        let log = Log::default();
        for n in 0..5 {
            log.add(Level::Info, "a line", [("n", n.to_string())]);
        }
        let first = log.since(0, 3);
        assert_eq!((first.lines.len(), first.next), (3, 3));
        let second = log.since(first.next, 3);
        assert_eq!((second.lines.len(), second.next), (2, 5));
        assert_eq!(log.since(5, 3), Page { next: 5, lines: vec![] });
    }
}
