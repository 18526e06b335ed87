//! `soulbox bench …`: this machine against its physical floor, in one run.

mod burst;
mod create;
mod density;
mod exec;
mod files;
mod floor;
mod load;
mod network;
mod runtime;
mod server;
mod stats;
mod sustained;
mod trip;

use serde::Serialize;

use super::{interrupt::Interrupt, subject::Subject};
use crate::{
    args::bench::{Bench, Live},
    failure::Result,
    output::{Output, Tone},
    settings::Settings,
};
use stats::{Spread, Summary};

/// What one run found.
#[derive(Debug, Serialize)]
struct Report {
    /// What was measured, and from where to where.
    measured: &'static str,
    /// What the floor is.
    floor: &'static str,
    template: String,
    samples: usize,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    figures: Vec<Figure>,
    machine: Machine,
    /// Whether the server ran before, or was started for this run.
    temporary_server: bool,
}

/// One kind of figure.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    #[serde(flatten)]
    summary: Summary,
    /// To the floor's figure of the same percentile; absent for the floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
}

#[derive(Debug, Serialize)]
struct Ratio {
    p50: f64,
    p90: f64,
    p99: f64,
}

/// A figure that is no duration of a sample.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    /// Of rounds of which `value` is the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<Spread>,
    /// To the floor's figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    /// Of rounds of which `ratio` is the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_spread: Option<Spread>,
}

impl Figure {
    const fn new(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit, spread: None, ratio: None, ratio_spread: None }
    }
}

#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    processors: usize,
    memory_bytes: u64,
    kernel: String,
}

pub(super) async fn run(settings: &Settings, command: Bench) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let report = match command {
        Bench::Live(live) => measure(settings, live, &interrupt).await?,
        Bench::Network(args) => network::run(settings, &args, &interrupt).await?,
        Bench::Runtime(args) => runtime::run(settings, args.number, &interrupt).await?,
        Bench::Server(args) => server::run(settings, args.number, &interrupt).await?,
    };
    show(&settings.output, &report)
}

/// Finds the server to measure, and ends it afterwards if it was started for that.
async fn measure(settings: &Settings, what: Live, interrupt: &Interrupt) -> Result<Report> {
    let on = Subject::find(settings, what.on().template.clone(), interrupt).await?;
    let report = match what {
        Live::Create(args) => create::run(settings, &on, (args.number, args.load), interrupt).await,
        Live::Burst(args) => burst::run(settings, &on, (args.number, args.rounds), interrupt).await,
        Live::Sustained(args) => sustained::run(settings, &on, args.seconds, interrupt).await,
        Live::Exec(args) => exec::run(settings, &on, args.number, interrupt).await,
        Live::Files(args) => files::run(settings, &on, (args.size, args.rounds), interrupt).await,
        Live::Density(args) => density::run(settings, &on, args.number, interrupt).await,
    };
    on.end().await;
    report
}

impl Report {
    /// Of `subject`, with rows alone.
    fn new(
        subject: &Subject,
        (measured, floor): (&'static str, &'static str),
        samples: usize,
        rows: Vec<Row>,
    ) -> Self {
        Self {
            measured,
            floor,
            template: subject.template.clone(),
            samples,
            rows,
            figures: Vec::new(),
            machine: Machine::this(),
            temporary_server: subject.is_temporary(),
        }
    }
}

impl Row {
    fn floor(name: &'static str, samples: &mut [std::time::Duration]) -> Self {
        Self { name, summary: Summary::of(samples), ratio: None }
    }

    fn above(name: &'static str, samples: &mut [std::time::Duration], floor: &Self) -> Self {
        let summary = Summary::of(samples);
        let ratio = Ratio {
            p50: summary.p50_ms / floor.summary.p50_ms,
            p90: summary.p90_ms / floor.summary.p90_ms,
            p99: summary.p99_ms / floor.summary.p99_ms,
        };
        Self { name, summary, ratio: Some(ratio) }
    }
}

impl Machine {
    fn this() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            processor,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: proc_bytes(&meminfo, "MemTotal:"),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }
}

/// A figure in a file of `/proc` that counts in kB, in bytes; 0 if it is not there.
fn proc_bytes(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    let kib: Option<u64> = value.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) * 1024
}

fn show(output: &Output, report: &Report) -> Result<()> {
    if output.json {
        return output.value(report);
    }
    let Machine { processor, processors, memory_bytes, kernel } = &report.machine;
    output.line(format!("{}: {}", output.tint(Tone::Strong, "measured"), report.measured))?;
    output.line(format!("{}: {}", output.tint(Tone::Strong, "floor"), report.floor))?;
    output.line(format!(
        "{}: {processors} × {processor}, {}, Linux {kernel}",
        output.tint(Tone::Strong, "machine"),
        crate::output::bytes(*memory_bytes)
    ))?;
    output.line(format!(
        "{}: {} samples, template {}{}\n",
        output.tint(Tone::Strong, "run"),
        report.samples,
        report.template,
        if report.temporary_server { ", temporary server" } else { "" }
    ))?;
    let rows = report
        .rows
        .iter()
        .map(|row| {
            let figure = |ms: f64, ratio: Option<f64>| match ratio {
                Some(ratio) => format!("{ms:.3} ms ({ratio:.2} ×)"),
                None => format!("{ms:.3} ms"),
            };
            let Row { name, summary, ratio } = row;
            vec![
                (*name).to_owned(),
                figure(summary.p50_ms, ratio.as_ref().map(|ratio| ratio.p50)),
                figure(summary.p90_ms, ratio.as_ref().map(|ratio| ratio.p90)),
                figure(summary.p99_ms, ratio.as_ref().map(|ratio| ratio.p99)),
                figure(summary.min_ms, None),
                figure(summary.max_ms, None),
            ]
        })
        .collect();
    output.table(&["", "P50", "P90", "P99", "MIN", "MAX"], rows)?;
    for Figure { name, value, unit, spread, ratio, ratio_spread } in &report.figures {
        let range = |spread: &Option<Spread>| {
            spread
                .map(|Spread { min, max, .. }| format!(", {min:.2} to {max:.2}"))
                .unwrap_or_default()
        };
        let (spread, ratio_spread) = (range(spread), range(ratio_spread));
        let ratio = ratio.map(|ratio| format!(" ({ratio:.2} ×{ratio_spread})")).unwrap_or_default();
        let name = output.tint(Tone::Strong, name);
        output.line(format!("{name}: {value:.2} {unit}{spread}{ratio}"))?;
    }
    Ok(())
}
