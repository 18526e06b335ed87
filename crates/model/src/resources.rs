//! What a sandbox may use.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;
pub const GIB: u64 = 1024 * MIB;

/// The longest life of a sandbox, as E2B has it.
pub const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Hard limits of one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU time per wall time, in thousandths of a core; 1000 is one core.
    pub cpu_millis: u32,
    /// Memory of all processes, page cache and kernel objects, in bytes.
    pub memory_bytes: u64,
    /// Bytes that the sandbox may write to its root file system.
    pub disk_bytes: u64,
    /// Processes and threads, the agent's included.
    pub pids: u32,
}

impl Resources {
    /// The least that a sandbox may ask for: of processor time, what the kernel can still measure out.
    pub const LEAST_CPU_MILLIS: u32 = 10;
    pub const LEAST_MEMORY_BYTES: u64 = 128_000_000;
    pub const LEAST_DISK_BYTES: u64 = 1_000_000;
    /// Of memory and disk: what no machine has, and what sums of do not overflow.
    pub const MOST_BYTES: u64 = 1 << 50;

    /// `cpuCount` as E2B clients see it: whole cores, at least one.
    pub fn cpu_count(&self) -> u32 {
        self.cpu_millis.div_ceil(1000).max(1)
    }

    pub fn memory_mib(&self) -> u64 {
        self.memory_bytes / MIB
    }

    pub fn disk_mib(&self) -> u64 {
        self.disk_bytes / MIB
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpu_millis: 2000, memory_bytes: 512 * MIB, disk_bytes: GIB, pids: 512 }
    }
}

/// How much a sandbox may read from a disk, and as much again write to it, in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRate {
    /// Bytes; `None` for no limit.
    pub bytes: Option<u64>,
    /// Requests to the device; `None` for no limit.
    pub operations: Option<u64>,
}

impl DiskRate {
    pub const UNLIMITED: Self = Self { bytes: None, operations: None };
}

impl Default for DiskRate {
    /// What one sandbox may take of a fast disk without being noticed by its neighbours.
    fn default() -> Self {
        Self { bytes: Some(500 * MIB), operations: Some(20_000) }
    }
}

/// What a sandbox uses at this moment, as the kernel counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time since the start, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory in use, page cache included, in bytes.
    pub memory_bytes: u64,
    /// The most that was in use since the start; 0 where the kernel does not say.
    #[serde(default)]
    pub memory_peak_bytes: u64,
    /// Of what is in use, page cache that the kernel can drop, in bytes.
    pub memory_cache_bytes: u64,
    /// Bytes written to the root file system and still there.
    pub disk_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// How often the kernel killed a process for lack of memory.
    pub oom_kills: u64,
}
