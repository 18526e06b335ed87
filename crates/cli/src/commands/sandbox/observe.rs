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
    let level = args.level.map(|level| level.as_str());
    let search = args.search.as_deref();
    let mut since = 0;
    // A page starts at a millisecond; what was shown of that one is not shown again.
    let mut shown: HashSet<String> = HashSet::new();
    let mut all = Vec::new();
    let mut started = false;
    loop {
        let page = match server.logs(&args.id, since, level, search).await {
            Ok(page) => page.logs,
            // It ended while we watched.
            Err(Failure::Answer { status: 404, .. }) if args.follow && started => return Ok(()),
            Err(failure) => return Err(failure),
        };
        started = true;
        let mut fresh = 0;
        for entry in page {
            let millis = entry.timestamp.timestamp_millis();
            let line = serde_json::to_string(&entry)
                .map_err(|error| Failure::Protocol(error.to_string()))?;
            if millis > since {
                since = millis;
                shown.clear();
            }
            if !shown.insert(line) {
                continue;
            }
            fresh += 1;
            match (output.json, args.follow) {
                (true, true) => output.record(&entry)?,
                (true, false) => all.push(entry),
                (false, _) => output.line(line_of(output, &entry))?,
            }
        }
        match (args.follow, fresh) {
            (true, 0) => tokio::time::sleep(POLL).await,
            (false, 0) => break,
            _ => {}
        }
    }
    if output.json { output.value(&all) } else { Ok(()) }
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
