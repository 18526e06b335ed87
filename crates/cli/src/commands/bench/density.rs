//! Many idle sandboxes: what they take, and how the server answers beside them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use soulbox_model::SandboxId;

use super::{Figure, Interrupt, Report, Row, proc_bytes, trip::make};
use crate::{
    commands::subject::Subject,
    data_dir::DataDir,
    failure::{Failure, Result},
    progress::Step,
    settings::Settings,
};

const AT_ONCE: usize = 8;
const MIB: f64 = (1 << 20) as f64;
/// Lets the pool fill up and caches settle.
const REST: Duration = Duration::from_secs(3);
const REQUESTS: usize = 300;
/// Sandboxes in a list.
const PAGE: u32 = 100;
const FREED_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn run(
    settings: &Settings,
    subject: &Subject,
    number: u32,
    interrupt: &Interrupt,
) -> Result<Report> {
    let mut ids = Vec::new();
    let measured = measure(settings, subject, number, interrupt, &mut ids).await;
    for id in &ids {
        subject.server.kill(id).await?;
    }
    measured
}

async fn measure(
    settings: &Settings,
    subject: &Subject,
    number: u32,
    interrupt: &Interrupt,
    ids: &mut Vec<SandboxId>,
) -> Result<Report> {
    // What the first one loads is nobody's in particular.
    let (first, _) = make(subject).await?;
    subject.server.kill(&first).await?;
    tokio::time::sleep(REST).await;
    let before = Memory::now()?;

    let step = Step::count(&settings.output, u64::from(number), "creating sandboxes");
    let mut making = stream::iter(0..number)
        .map(|_| async {
            interrupt.check()?;
            make(subject).await
        })
        .buffer_unordered(AT_ONCE);
    while let Some((id, _)) = making.try_next().await? {
        ids.push(id);
        step.advance(1);
    }
    drop((making, step));
    tokio::time::sleep(REST).await;
    let after = Memory::now()?;

    let mut requests = Vec::new();
    for id in ids.iter().cycle().take(REQUESTS) {
        interrupt.check()?;
        let began = Instant::now();
        subject.server.get(id).await?;
        requests.push(began.elapsed());
    }
    let mut pages = Vec::new();
    for _ in 0..REQUESTS {
        interrupt.check()?;
        let began = Instant::now();
        subject.server.page(PAGE).await?;
        pages.push(began.elapsed());
    }
    let server = subject.data_dir.as_deref().map(resident).transpose()?;

    let mut kills = Vec::new();
    let began = Instant::now();
    while let Some(id) = ids.last() {
        let began = Instant::now();
        subject.server.kill(id).await?;
        kills.push(began.elapsed());
        ids.pop();
    }
    let killed = began.elapsed();
    let freed = freed(&before, &after, f64::from(number)).await?;

    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(number);
    let mut figures = vec![
        Figure::new(
            "memory for each, kernel's included",
            each(after.available, before.available) / MIB,
            "MiB",
        ),
        Figure::new("kernel objects of it", each(before.slab, after.slab) / MIB, "MiB"),
        Figure::new("all killed, one after the other, in", killed.as_secs_f64(), "s"),
        Figure::new("nine tenths of the memory back after", freed.as_secs_f64(), "s"),
    ];
    if let Some(bytes) = server {
        figures.push(Figure::new("server, resident", bytes as f64 / MIB, "MiB"));
    }
    let words =
        ("idle sandboxes, and the API beside them", "none: these are figures of this machine");
    let rows = vec![
        Row::floor("GET a sandbox", &mut requests),
        Row::floor("GET a list of 100", &mut pages),
        Row::floor("DELETE a sandbox", &mut kills),
    ];
    Ok(Report { figures, ..Report::new(subject, words, number as usize, rows) })
}

/// Waits until nine tenths of what was taken are there again.
async fn freed(before: &Memory, after: &Memory, number: f64) -> Result<Duration> {
    let began = Instant::now();
    let taken = before.available.saturating_sub(after.available) / 10 * 9;
    while Memory::now()?.available.saturating_sub(after.available) < taken {
        if began.elapsed() > FREED_WITHIN {
            return Err(Failure::Protocol(format!(
                "the memory of {number} sandboxes is not freed"
            )));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(began.elapsed())
}

/// Of the machine, in bytes.
struct Memory {
    available: u64,
    slab: u64,
}

impl Memory {
    fn now() -> Result<Self> {
        let text = read(Path::new("/proc/meminfo"))?;
        Ok(Self { available: proc_bytes(&text, "MemAvailable:"), slab: proc_bytes(&text, "Slab:") })
    }
}

/// Bytes of the server's memory that are in RAM.
pub(super) fn resident(data_dir: &Path) -> Result<u64> {
    let Some(server) = DataDir::new(data_dir).announcement()? else { return Ok(0) };
    let text = read(Path::new(&format!("/proc/{}/status", server.pid)))?;
    Ok(proc_bytes(&text, "VmRSS:"))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Failure::io(path.display().to_string()))
}
