//! The lines of one sandbox that are kept in memory.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::{
    core::now,
    types::{Level, LogLine},
};

const AGENT_LINES: usize = 1000;
const AGENT_BYTES: usize = 1024 * 1024;
const LIFE_LINES: usize = 64;
const REFUSALS: usize = 256;

/// Bounded: the oldest lines go first.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    lines: Mutex<Lines>,
    /// The number of the agent's next line. Held while it is asked, so that none comes twice.
    pub(super) next: tokio::sync::Mutex<u64>,
}

#[derive(Debug, Default)]
struct Lines {
    life: VecDeque<LogLine>,
    /// What the sandbox was refused: it makes these lines as fast as it likes.
    refusals: VecDeque<LogLine>,
    agent: VecDeque<LogLine>,
    agent_bytes: usize,
}

impl Journal {
    /// Notes something in the life of the sandbox.
    pub(crate) fn note(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        let line = line(level, message, fields);
        push(&mut self.lines.lock().life, LIFE_LINES, line);
    }

    /// Notes something that the sandbox tried and was not let do.
    pub(crate) fn refusal(&self, message: &str, fields: &[(&str, &str)]) {
        let line = line(Level::Warn, message, fields);
        push(&mut self.lines.lock().refusals, REFUSALS, line);
    }

    /// Takes over lines of the agent.
    pub(crate) fn extend(&self, new: impl IntoIterator<Item = LogLine>) {
        let mut lines = self.lines.lock();
        for line in new {
            lines.agent_bytes += size(&line);
            lines.agent.push_back(line);
            while lines.agent.len() > AGENT_LINES || lines.agent_bytes > AGENT_BYTES {
                let Some(oldest) = lines.agent.pop_front() else { break };
                lines.agent_bytes -= size(&oldest);
            }
        }
    }

    /// All lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<LogLine> {
        let lines = self.lines.lock();
        let mut all: Vec<_> =
            lines.life.iter().chain(&lines.refusals).chain(&lines.agent).cloned().collect();
        drop(lines);
        all.sort_by_key(|line| line.timestamp);
        all
    }
}

fn line(level: Level, message: &str, fields: &[(&str, &str)]) -> LogLine {
    let fields = [("logger", "soulbox")].iter().chain(fields);
    LogLine {
        timestamp: now(),
        level,
        message: message.to_owned(),
        fields: fields.map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
}

fn push(lines: &mut VecDeque<LogLine>, most: usize, line: LogLine) {
    if lines.len() == most {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// Bytes that a line takes, roughly.
fn size(line: &LogLine) -> usize {
    let fields: usize = line.fields.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
    64 + line.message.len() + fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: String) -> LogLine {
        LogLine { timestamp: now(), level: Level::Info, message, fields: Default::default() }
    }

    #[test]
    fn an_agent_cannot_fill_the_servers_memory() {
        let journal = Journal::default();
        journal.extend((0..5000).map(|i| line(i.to_string())));
        let lines = journal.lines();
        assert_eq!(lines.len(), AGENT_LINES);
        assert_eq!(lines.last().unwrap().message, "4999");
        journal.extend((0..100).map(|_| line("x".repeat(100_000))));
        let bytes: usize = journal.lines().iter().map(size).sum();
        assert!(bytes <= AGENT_BYTES, "{bytes}");
        assert_eq!(journal.lines().len(), 10);
    }

    #[test]
    fn the_agents_lines_do_not_push_out_the_life_of_the_sandbox() {
        let journal = Journal::default();
        journal.note(Level::Info, "created", &[("event", "created")]);
        journal.extend((0..5000).map(|i| line(i.to_string())));
        let first = journal.lines().remove(0);
        assert_eq!(first.message, "created");
        assert_eq!(first.fields["event"], "created");
        assert_eq!(first.fields["logger"], "soulbox");
    }
}
