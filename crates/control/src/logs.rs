//! What happened in a sandbox: lines of its life, and lines that its agent noted.

pub(crate) mod journal;
pub(crate) mod pull;

use std::sync::Arc;

use chrono::Duration;
pub(crate) use journal::Journal;
use soulbox_model::{Error, Result, SandboxId, TeamId};

use crate::{
    core::{Core, now},
    live::Live,
    types::{Direction, LogLine, LogQuery},
};

const SEARCH_BYTES: usize = 256;
/// How far from its cursor a query sees.
const WINDOW: Duration = Duration::days(7);
/// How long a query waits for the agent; without it, it answers what is known.
const PULL_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

impl Core {
    pub(crate) async fn logs(
        &self,
        team: TeamId,
        id: &SandboxId,
        query: &LogQuery,
    ) -> Result<Vec<LogLine>> {
        query.check()?;
        let live = match self.registry.of_team(team, id) {
            Some(live) => {
                self.refresh_journal(&live).await;
                live
            }
            None => {
                self.archive.of_team(team, id).ok_or_else(|| Error::not_found("sandbox", id))?
            }
        };
        Ok(query.select(live.journal.lines()))
    }

    async fn refresh_journal(&self, live: &Arc<Live>) {
        if !live.is_running() {
            return;
        }
        self.read_usage(live).await;
        match tokio::time::timeout(PULL_WITHIN, self.pull_logs(live)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(sandbox = %live.id, %error, "no log from the agent"),
            Err(_) => tracing::warn!(sandbox = %live.id, "the agent was slow to give its log"),
        }
    }
}

impl LogQuery {
    fn check(&self) -> Result<()> {
        if self.limit > Self::MAX {
            return Err(Error::invalid("limit", "must be 0 to 1000"));
        }
        if self.search.as_ref().is_some_and(|search| search.len() > SEARCH_BYTES) {
            return Err(Error::invalid("search", "must be at most 256 bytes"));
        }
        Ok(())
    }

    /// Of `lines`, oldest first, those that are asked for, in the order asked for.
    fn select(&self, lines: Vec<LogLine>) -> Vec<LogLine> {
        let cursor = self.cursor.unwrap_or_else(now);
        let wanted = |line: &LogLine| {
            let in_window = match (self.direction, self.cursor) {
                (Direction::Forward, None) => true,
                (Direction::Forward, Some(from)) => {
                    line.timestamp >= from && line.timestamp - from <= WINDOW
                }
                (Direction::Backward, _) => {
                    line.timestamp <= cursor && cursor - line.timestamp <= WINDOW
                }
            };
            in_window
                && self.level.is_none_or(|least| line.level >= least)
                && self.search.as_ref().is_none_or(|text| line.message.contains(text.as_str()))
        };
        let chosen = lines.into_iter().filter(wanted);
        match self.direction {
            Direction::Forward => chosen.take(self.limit).collect(),
            Direction::Backward => chosen.rev().take(self.limit).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::types::Level;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
    }

    fn lines() -> Vec<LogLine> {
        let levels = [Level::Debug, Level::Info, Level::Warn, Level::Error];
        let line = |second: usize| LogLine {
            timestamp: at(second as i64),
            level: levels[second % 4],
            message: format!("line {second}"),
            fields: Default::default(),
        };
        (0..8).map(line).collect()
    }

    fn chosen(query: LogQuery) -> Vec<String> {
        query.select(lines()).into_iter().map(|line| line.message[5..].to_owned()).collect()
    }

    #[test]
    fn a_query_goes_both_ways_from_its_cursor() {
        let forward = LogQuery { direction: Direction::Forward, limit: 3, ..LogQuery::default() };
        assert_eq!(chosen(forward.clone()), ["0", "1", "2"]);
        assert_eq!(chosen(LogQuery { cursor: Some(at(5)), ..forward }), ["5", "6", "7"]);
        let backward = LogQuery { cursor: Some(at(5)), limit: 2, ..LogQuery::default() };
        assert_eq!(chosen(backward), ["5", "4"]);
        assert_eq!(chosen(LogQuery { limit: 0, ..LogQuery::default() }), [""; 0]);
    }

    #[test]
    fn level_and_search_narrow_it() {
        let all = LogQuery { cursor: Some(at(100)), ..LogQuery::default() };
        let warn = LogQuery { level: Some(Level::Warn), ..all.clone() };
        assert_eq!(chosen(warn), ["7", "6", "3", "2"]);
        assert_eq!(chosen(LogQuery { search: Some("ne 4".into()), ..all.clone() }), ["4"]);
        assert_eq!(chosen(LogQuery { search: Some("NE 4".into()), ..all }), [""; 0]);
    }

    #[test]
    fn a_week_from_the_cursor_is_seen() {
        let far = LogQuery { cursor: Some(at(7) + WINDOW), ..LogQuery::default() };
        assert_eq!(chosen(far), ["7"]);
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert!(LogQuery { limit: 1001, ..LogQuery::default() }.check().is_err());
        assert!(LogQuery { search: Some("x".repeat(257)), ..LogQuery::default() }.check().is_err());
        assert!(LogQuery { search: Some("x".repeat(256)), ..LogQuery::default() }.check().is_ok());
    }
}
