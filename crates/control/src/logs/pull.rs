//! Asking an agent for its log.
//!
//! The agent runs among the sandbox's processes: what it answers is bounded and not believed.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::DateTime;
use http::{Request, header::HOST};
use serde::Deserialize;
use serde_json::Value;
use soulbox_model::{BoxError, SandboxId};

use crate::{
    agent,
    core::Core,
    live::Live,
    types::{Level, LogLine},
};

const LINES_AT_ONCE: usize = 1000;
/// What an agent keeps, with every byte of it escaped, and some more.
const ANSWER_BYTES: usize = 8 * 1024 * 1024;
const MESSAGE_BYTES: usize = 16 * 1024;
const FIELDS: usize = 32;
const FIELD_BYTES: usize = 1024;

#[derive(Debug, Deserialize)]
struct Answer {
    next: u64,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    seq: u64,
    timestamp_ms: i64,
    level: String,
    message: String,
    #[serde(default)]
    fields: BTreeMap<String, Value>,
}

impl Core {
    /// Brings the journal of a sandbox up to date with its agent.
    pub(crate) async fn pull_logs(&self, live: &Live) -> Result<(), BoxError> {
        let mut next = live.journal.next.lock().await;
        let answer = self.ask(&live.id, *next).await?;
        let (lines, after) = read(&answer, *next)?;
        live.journal.extend(lines);
        *next = after;
        Ok(())
    }

    /// Whether the agent of a sandbox answers.
    pub(crate) async fn answers(&self, id: &SandboxId) -> Result<(), BoxError> {
        self.ask(id, 0).await.map(drop)
    }

    async fn ask(&self, id: &SandboxId, since: u64) -> Result<Bytes, BoxError> {
        let request = Request::get(format!("/soulbox/logs?since={since}&limit={LINES_AT_ONCE}"))
            .header(HOST, "sandbox")
            .body(Bytes::new())?;
        Ok(agent::ask(&*self.engine, id, &request, ANSWER_BYTES).await?)
    }
}

/// The lines of an answer from number `since` on, and the number of the next.
pub(crate) fn read(
    answer: &[u8],
    since: u64,
) -> serde_json::Result<(impl Iterator<Item = LogLine> + use<>, u64)> {
    let Answer { next, lines } = serde_json::from_slice(answer)?;
    let new = lines.into_iter().filter(move |line| line.seq >= since);
    Ok((new.take(LINES_AT_ONCE).filter_map(Line::into_log_line), next.max(since)))
}

impl Line {
    fn into_log_line(self) -> Option<LogLine> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let fields = self.fields.into_iter().take(FIELDS);
        Some(LogLine {
            timestamp: DateTime::from_timestamp_millis(self.timestamp_ms)?,
            level: Level::parse(&self.level).unwrap_or(Level::Info),
            message: cut(self.message, MESSAGE_BYTES),
            fields: fields
                .map(|(key, value)| (cut(key, FIELD_BYTES), cut(text(value), FIELD_BYTES)))
                .collect(),
        })
    }
}

/// At most `bytes` of `text`, whole characters.
fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}
