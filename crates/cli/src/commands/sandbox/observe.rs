//! What a sandbox says and uses.

use std::{collections::HashSet, time::Duration};

use soulbox_model::SandboxId;
use soulbox_wire::rest::{LogEntry, LogLevel};

use crate::{
    args::sandbox::Logs,
    client::Server,
    failure::{Failure, Result},
    output::{Output, Tone, bytes, plain},
};

const POLL: Duration = Duration::from_millis(500);

pub(super) async fn logs(server: &Server, output: &Output, args: Logs) -> Result<()> {
    let mut reader = Reader::default();
    let mut all = Vec::new();
    loop {
        // Asked before the page is read: what it wrote until its end is on that page.
        let ended = args.follow && has_ended(server, &args.id).await?;
        let fresh = reader.next(server, &args).await?;
        let more = !fresh.is_empty();
        for entry in fresh {
            match (output.json, args.follow) {
                (true, true) => output.record(&entry)?,
                (true, false) => all.push(entry),
                (false, _) => output.line(line_of(output, &entry))?,
            }
        }
        match (args.follow, more) {
            (_, true) => {}
            (true, false) if !ended => tokio::time::sleep(POLL).await,
            (_, false) => break,
        }
    }
    if output.json && !args.follow { output.value(&all) } else { Ok(()) }
}

async fn has_ended(server: &Server, id: &SandboxId) -> Result<bool> {
    match server.get(id).await {
        Ok(_) => Ok(false),
        Err(Failure::Answer { status: 404, .. }) => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// Reads a log page by page.
#[derive(Debug, Default)]
struct Reader {
    /// The millisecond of the newest line.
    since: Option<i64>,
    /// A page starts at a millisecond; what was shown of that one is not shown again.
    shown: HashSet<String>,
}

impl Reader {
    async fn next(&mut self, server: &Server, args: &Logs) -> Result<Vec<LogEntry>> {
        let level = args.level.map(|level| level.as_str());
        let page = server.logs(&args.id, self.since, level, args.search.as_deref()).await?;
        let mut fresh = Vec::new();
        for entry in page.logs {
            let millis = entry.timestamp.timestamp_millis();
            if self.since.is_none_or(|since| millis > since) {
                self.since = Some(millis);
                self.shown.clear();
            }
            let line = serde_json::to_string(&entry)
                .map_err(|error| Failure::Protocol(error.to_string()))?;
            if self.shown.insert(line) {
                fresh.push(entry);
            }
        }
        Ok(fresh)
    }
}

fn line_of(output: &Output, entry: &LogEntry) -> String {
    let time = entry.timestamp.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let (level, tone) = match entry.level {
        LogLevel::Debug => ("DEBUG", Tone::Quiet),
        LogLevel::Info => ("INFO ", Tone::Good),
        LogLevel::Warn => ("WARN ", Tone::Warning),
        LogLevel::Error => ("ERROR", Tone::Bad),
    };
    let mut line = format!(
        "{} {} {}",
        output.tint(Tone::Quiet, time),
        output.tint(tone, level),
        plain(&entry.message)
    );
    for (key, value) in &entry.fields {
        line += &output.tint(Tone::Quiet, format!(" {}={}", plain(key), plain(value)));
    }
    line
}

pub(super) async fn metrics(server: &Server, output: &Output, id: &SandboxId) -> Result<()> {
    let samples = server.metrics(id).await?;
    if samples.is_empty() {
        // The metrics of an unknown sandbox are an empty list too.
        server.get(id).await?;
    }
    if output.json {
        return output.value(&samples);
    }
    if samples.is_empty() {
        output.note("no sample yet; the first one takes some seconds");
        return Ok(());
    }
    let rows = samples
        .iter()
        .map(|sample| {
            vec![
                sample.timestamp.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
                format!("{:.1} % of {}", sample.cpu_used_pct, sample.cpu_count),
                format!("{} of {}", bytes(sample.mem_used), bytes(sample.mem_total)),
                bytes(sample.mem_cache),
                format!("{} of {}", bytes(sample.disk_used), bytes(sample.disk_total)),
            ]
        })
        .collect();
    output.table(&["TIME", "CPU", "MEMORY", "CACHE", "DISK"], rows)
}
