//! Metrics and logs of sandboxes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a sandbox used at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    pub timestamp: DateTime<Utc>,
    /// Seconds since 1970.
    pub timestamp_unix: i64,
    pub cpu_count: u32,
    /// Percent of one core; 200 when two cores are busy.
    pub cpu_used_pct: f64,
    /// Bytes.
    pub mem_used: u64,
    /// Bytes.
    pub mem_total: u64,
    /// Bytes of page cache within `mem_used`.
    pub mem_cache: u64,
    /// Bytes.
    pub disk_used: u64,
    /// Bytes.
    pub disk_total: u64,
    /// The name that clients of 1.5 want.
    #[serde(rename = "memUsedMiB", default)]
    pub mem_used_mib: u64,
    /// The name that clients of 1.5 want.
    #[serde(rename = "memTotalMiB", default)]
    pub mem_total_mib: u64,
}

/// Body of `GET /sandboxes/metrics`: the newest sample of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxesWithMetrics {
    pub sandboxes: BTreeMap<String, Metric>,
}

/// Ordered by weight, so that a minimum level is a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEntry {
    pub timestamp: DateTime<Utc>,
    pub level: LogLevel,
    pub message: String,
    pub fields: BTreeMap<String, String>,
}

/// One line of the v1 logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxLog {
    pub timestamp: DateTime<Utc>,
    /// A JSON object with at least `level` and `message`: clients parse it.
    pub line: String,
}

/// Body of `GET /sandboxes/{sandboxID}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxLogs {
    pub logs: Vec<SandboxLog>,
    pub log_entries: Vec<LogEntry>,
}

/// Body of `GET /v2/sandboxes/{sandboxID}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxLogsV2 {
    pub logs: Vec<LogEntry>,
}
