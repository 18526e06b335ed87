//! `GET /metrics`: what the sandbox uses, as far as it can see that from inside.
//!
//! Where a cgroup is in sight its figures count, else those of `/proc`.

use std::{
    fs,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::State as Shared,
    http::{Response, StatusCode},
};
use parking_lot::Mutex;
use serde::Serialize;

use crate::{State, reply};

const MIB: u64 = 1 << 20;

/// One answer.
#[derive(Debug, Serialize)]
struct Metrics {
    /// Seconds since 1970.
    ts: u64,
    cpu_count: usize,
    /// Of all processors, since the previous call: 0 to 100.
    cpu_used_pct: f64,
    /// Bytes, like all that follow.
    mem_total: u64,
    mem_used: u64,
    mem_cache: u64,
    /// MiB, for old clients.
    mem_total_mib: u64,
    mem_used_mib: u64,
    disk_total: u64,
    disk_used: u64,
}

/// Processor time at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct CpuSample {
    at: Instant,
    /// Microseconds.
    used: u64,
}

/// What the previous call saw.
#[derive(Debug, Default)]
pub struct Previous(Mutex<Option<CpuSample>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Memory {
    total: u64,
    used: u64,
    cache: u64,
}

pub async fn metrics(Shared(state): Shared<Arc<State>>) -> Response<Body> {
    // The files below are the kernel's own and never wait for a disk.
    let cpu_count = std::thread::available_parallelism().map_or(1, Into::into);
    let now = CpuSample { at: Instant::now(), used: cpu_used() };
    let previous = state.previous_metrics.0.lock().replace(now);
    let memory = memory();
    let (disk_total, disk_used) = disk();
    let ts = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let metrics = Metrics {
        ts,
        cpu_count,
        cpu_used_pct: previous.map_or(0.0, |previous| percent(previous, now, cpu_count)),
        mem_total: memory.total,
        mem_used: memory.used,
        mem_cache: memory.cache,
        mem_total_mib: memory.total / MIB,
        mem_used_mib: memory.used / MIB,
        disk_total,
        disk_used,
    };
    reply::json(StatusCode::OK, &metrics)
}

/// With two decimals.
fn percent(from: CpuSample, to: CpuSample, cpu_count: usize) -> f64 {
    let elapsed = to.at.duration_since(from.at).as_micros() as f64 * cpu_count as f64;
    if elapsed <= 0.0 {
        return 0.0;
    }
    let percent = to.used.saturating_sub(from.used) as f64 / elapsed * 100.0;
    (percent.min(100.0) * 100.0).round() / 100.0
}

fn cpu_used() -> u64 {
    let v2 = || value_of(&read("/sys/fs/cgroup/cpu.stat")?, "usage_usec");
    let v1 = || {
        let nanoseconds: u64 = read("/sys/fs/cgroup/cpuacct/cpuacct.usage")?.trim().parse().ok()?;
        Some(nanoseconds / 1000)
    };
    v2().or_else(v1).unwrap_or_else(|| read("/proc/stat").map_or(0, |stat| busy(&stat)))
}

/// Microseconds that all processors were not idle, from `/proc/stat`.
fn busy(stat: &str) -> u64 {
    /// `USER_HZ`, which is 100 on every architecture that Rust runs on.
    const TICK: u64 = 10_000;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    // user nice system (idle iowait) irq softirq steal; guest time is part of user time.
    [0, 1, 2, 5, 6, 7].iter().filter_map(|index| ticks.get(*index)).sum::<u64>() * TICK
}

fn memory() -> Memory {
    let host = read("/proc/meminfo").map(|text| meminfo(&text)).unwrap_or_default();
    let limits = [
        (
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory.current",
            "/sys/fs/cgroup/memory.stat",
        ),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
            "/sys/fs/cgroup/memory/memory.stat",
        ),
    ];
    let limited = limits.iter().find_map(|(limit, usage, stat)| {
        let number = |path| read(path)?.trim().parse::<u64>().ok();
        let total = number(limit).filter(|total| host.total == 0 || *total < host.total)?;
        let stat = read(stat)?;
        let cache = value_of(&stat, "file").or_else(|| value_of(&stat, "total_cache"))?;
        Some(Memory { total, used: number(usage)?.saturating_sub(cache), cache })
    });
    limited.unwrap_or(host)
}

fn meminfo(text: &str) -> Memory {
    let kib = |name| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0) * 1024
    };
    let (total, cache) = (kib("MemTotal"), kib("Cached") + kib("SReclaimable"));
    let not_used = kib("MemFree") + kib("Buffers") + cache;
    Memory { total, used: total.saturating_sub(not_used), cache }
}

fn disk() -> (u64, u64) {
    let Ok(stat) = rustix::fs::statvfs("/") else { return (0, 0) };
    let total = stat.f_blocks.saturating_mul(stat.f_frsize);
    (total, total.saturating_sub(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The number after `name` and a blank.
fn value_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn processor_time_becomes_a_share_of_all_processors() {
        let at = Instant::now();
        let sample = |ms: u64, used| CpuSample { at: at + Duration::from_millis(ms), used };
        assert_eq!(percent(sample(0, 500), sample(1000, 500_500), 2), 25.0);
        assert_eq!(percent(sample(0, 0), sample(3, 1000), 1), 33.33);
        assert_eq!(percent(sample(0, 0), sample(10, 1_000_000), 1), 100.0);
        assert_eq!(percent(sample(0, 9), sample(0, 10), 1), 0.0);
        assert_eq!(busy("cpu  1 2 4 1000 1000 8 16 32 64 128\ncpu0 9 9"), 630_000);
    }

    #[test]
    fn memory_in_use_leaves_out_what_the_kernel_can_drop() {
        let text = "MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 1 kB\nBuffers: 50 kB\n\
                    Cached: 100 kB\nSwapCached: 7 kB\nSReclaimable: 50 kB\n";
        let expected = Memory { total: 1000 << 10, used: 500 << 10, cache: 150 << 10 };
        assert_eq!(meminfo(text), expected);
        assert_eq!(meminfo(""), Memory::default());
        assert_eq!(value_of("file_mapped 1\nfile 22\n", "file"), Some(22));
    }
}
