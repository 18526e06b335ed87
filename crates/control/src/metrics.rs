//! What sandboxes use, over time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use soulbox_engine::Usage;
use soulbox_model::{Error, Resources, Result, SandboxId, TeamId};
use tokio::time::{Instant, timeout};

use crate::{
    core::{Core, now},
    live::Live,
    types::{Level, Sample},
};

pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// One hour.
const KEEP_SAMPLES: usize = 720;
const AT_ONCE: usize = 8;
/// How long one reading may take.
const READ_WITHIN: Duration = Duration::from_secs(2);
const IDS_AT_MOST: usize = 100;

/// The samples of one sandbox, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    points: VecDeque<Point>,
    /// CPU time at the last reading, and when that was.
    cpu_nanos: u64,
    read_at: Instant,
    /// Processes that the kernel killed for lack of memory, so far.
    oom_kills: u64,
}

/// What changes from sample to sample.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: DateTime<Utc>,
    cpu_pct: f32,
    mem_used: u64,
    mem_cache: u64,
    disk_used: u64,
}

impl History {
    /// Of a sandbox whose CPU time was `cpu_nanos` at `at`.
    pub(crate) fn new(cpu_nanos: u64, at: Instant) -> Self {
        Self { points: VecDeque::new(), cpu_nanos, read_at: at, oom_kills: 0 }
    }

    /// How many processes were killed for lack of memory since this was asked last.
    fn new_oom_kills(&mut self, usage: &Usage) -> u64 {
        let before = std::mem::replace(&mut self.oom_kills, usage.oom_kills);
        usage.oom_kills.saturating_sub(before)
    }

    fn add(&mut self, usage: &Usage, granted: &Resources, at: DateTime<Utc>, read_at: Instant) {
        let elapsed = read_at.saturating_duration_since(self.read_at).as_nanos() as f64;
        let granted_nanos = elapsed * f64::from(granted.cpu_millis) / 1000.0;
        let used_nanos = usage.cpu_nanos.saturating_sub(self.cpu_nanos) as f64;
        let share = if granted_nanos > 0.0 { used_nanos / granted_nanos } else { 0.0 };
        // Two digits, and never more than all: the reading and the clock are not one instant.
        let cpu_pct = ((share * 10_000.0).round() / 100.0).clamp(0.0, 100.0) as f32;
        self.cpu_nanos = usage.cpu_nanos;
        self.read_at = read_at;
        if self.points.len() == KEEP_SAMPLES {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            at,
            cpu_pct,
            mem_used: usage.memory_bytes,
            mem_cache: usage.memory_cache_bytes,
            disk_used: usage.disk_bytes,
        });
    }
}

impl Point {
    fn sample(&self, granted: &Resources) -> Sample {
        Sample {
            timestamp: self.at,
            cpu_count: granted.cpu_count(),
            cpu_used_pct: self.cpu_pct,
            mem_total: granted.memory_bytes,
            mem_used: self.mem_used,
            mem_cache: self.mem_cache,
            disk_total: granted.disk_bytes,
            disk_used: self.disk_used,
        }
    }
}

impl Core {
    /// Adds a sample to every running sandbox.
    pub(crate) async fn sample_all(&self) {
        let running = self.registry.all().into_iter().filter(|live| live.is_running());
        futures::stream::iter(running)
            .for_each_concurrent(AT_ONCE, async |live| {
                if let Some(usage) = self.read_usage(&live).await {
                    live.history.lock().add(&usage, &live.resources, now(), Instant::now());
                }
            })
            .await;
    }

    /// Reads what a sandbox uses, and notes in its log if it ran out of memory.
    pub(crate) async fn read_usage(&self, live: &Live) -> Option<Usage> {
        match timeout(READ_WITHIN, self.engine.usage(&live.id)).await {
            Ok(Ok(usage)) => {
                let killed = live.history.lock().new_oom_kills(&usage);
                if killed > 0 {
                    let text = format!("out of memory (OOM): {killed} of its processes killed");
                    live.journal.note(Level::Warn, &text, &[("event", "oom")]);
                }
                Some(usage)
            }
            Ok(Err(error)) => {
                tracing::debug!(sandbox = %live.id, %error, "no metrics this time");
                None
            }
            Err(_) => {
                tracing::warn!(sandbox = %live.id, "metrics took too long to read");
                None
            }
        }
    }

    pub(crate) fn metrics(
        &self,
        team: TeamId,
        id: &SandboxId,
        start: Option<DateTime<Utc>>,
        end: Option<DateTime<Utc>>,
    ) -> Result<Vec<Sample>> {
        if let (Some(start), Some(end)) = (start, end)
            && start > end
        {
            return Err(Error::invalid("start", "must not be after end"));
        }
        let live = self.registry.of_team(team, id).or_else(|| self.archive.of_team(team, id));
        let Some(live) = live else { return Ok(Vec::new()) };
        let history = live.history.lock();
        Ok(history
            .points
            .iter()
            .filter(|point| start.is_none_or(|start| point.at >= start))
            .filter(|point| end.is_none_or(|end| point.at <= end))
            .map(|point| point.sample(&live.resources))
            .collect())
    }

    pub(crate) fn latest_metrics(
        &self,
        team: TeamId,
        ids: &[SandboxId],
    ) -> Result<BTreeMap<SandboxId, Sample>> {
        let ids: std::collections::BTreeSet<_> = ids.iter().collect();
        if ids.len() > IDS_AT_MOST {
            return Err(Error::invalid("sandbox_ids", "must be at most 100"));
        }
        let latest = ids.into_iter().filter_map(|id| {
            let live = self.running(team, id).ok()?;
            let sample = live.history.lock().points.back()?.sample(&live.resources);
            Some((id.clone(), sample))
        });
        Ok(latest.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cpu_nanos: u64) -> Usage {
        Usage { cpu_nanos, memory_bytes: 7, ..Usage::default() }
    }

    #[test]
    fn cpu_is_the_share_of_what_is_granted() {
        let start = Instant::now();
        let mut history = History::new(1_000, start);
        let granted = Resources { cpu_millis: 2000, ..Resources::default() };
        let second = Duration::from_secs(1);
        let mut add = |nanos, after| {
            history.add(&usage(nanos), &granted, now(), start + after);
            history.points.back().unwrap().cpu_pct
        };
        assert_eq!(add(1_000 + 1_000_000_000, second), 50.0);
        assert_eq!(add(1_000 + 1_000_000_000, second * 2), 0.0);
        assert_eq!(add(1_000 + 9_000_000_000, second * 3), 100.0);
        assert_eq!(add(0, second * 4), 0.0);
    }

    #[test]
    fn no_more_than_an_hour_is_kept() {
        let start = Instant::now();
        let mut history = History::new(0, start);
        for i in 0..1000u32 {
            let at = DateTime::from_timestamp(i.into(), 0).unwrap();
            history.add(&usage(0), &Resources::default(), at, start + SAMPLE_EVERY * i);
        }
        assert_eq!(history.points.len(), KEEP_SAMPLES);
        assert_eq!(history.points.back().unwrap().at.timestamp(), 999);
        assert_eq!(history.points.front().unwrap().at.timestamp(), 280);
    }
}
