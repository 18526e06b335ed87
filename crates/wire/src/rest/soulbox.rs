//! SoulBox's own API below `/soulbox/v1`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `GET /soulbox/v1/info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Version of the server.
    pub version: String,
    /// The isolation engine.
    pub engine: String,
    /// The envd version that agents advertise.
    pub envd_version: String,
    pub started_at: DateTime<Utc>,
    /// Where host names of sandboxes live; `null` when none is configured.
    pub domain: Option<String>,
    /// Running sandboxes of the caller's team.
    pub running: u64,
}

/// Body of `POST /soulbox/v1/sandboxes/{sandboxID}/passes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewPortPass {
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u32,
    /// Seconds until it no longer lets in; 3600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86400)]
    pub timeout: Option<i32>,
}

/// What lets a browser in to one private port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortPass {
    pub port: u16,
    /// Name of the query parameter.
    pub parameter: String,
    /// Its value.
    pub pass: String,
    pub expires_at: DateTime<Utc>,
}

/// Which requests the hosts that a sandbox reaches may get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRules {
    /// `METHOD[,METHOD] host/path`, as in `GET,POST api.example.com/v1/*`. A host that one of these
    /// names gets what they allow and nothing else.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Host or `*.domain` → requests a minute, 1 to 1,000,000.
    #[serde(default)]
    pub per_minute: BTreeMap<String, u32>,
}

/// A template of this server and how far its build is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateProgress {
    pub name: String,
    /// Absent as long as there is nothing built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    pub state: TemplateState,
    /// 0 to 100, while it is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// What the build does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why the last build failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Bytes on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    /// The template that it adds a layer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TemplateState {
    /// Sandboxes can be made from it.
    Ready,
    Building,
    /// Known, but never built.
    Missing,
    /// The last build failed.
    Failed,
}

/// A template that adds to another one what files and commands make of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DerivedTemplate {
    /// Name of the template below.
    pub parent: String,
    /// Absolute directory that the files go into, made if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default)]
    pub files: Vec<DerivedFile>,
    /// Run one after the other when the files are there; a failure fails the build.
    #[serde(default)]
    pub steps: Vec<DerivedStep>,
    /// Of every command in its sandboxes.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Absolute directory that commands run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DerivedFile {
    /// Relative to the target.
    pub path: String,
    /// Permission bits; 0644 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Base64.
    pub content: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DerivedStep {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `root` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The target when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// 1 to 1200; 300 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

/// Which derived templates to remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PruneTemplates {
    /// Only those that nobody asked for in so many seconds; a week when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_for: Option<u64>,
}

/// A template that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrunedTemplate {
    pub name: String,
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Bytes that are free again.
    pub size_bytes: u64,
}

/// What a sandbox has used since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxUsage {
    /// CPU time of all processes, in microseconds.
    pub cpu_micros: u64,
    /// Memory in use, page cache included, in bytes.
    pub memory_bytes: u64,
    /// The most that was in use; absent where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    pub disk_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Processes that the kernel killed for lack of memory.
    pub oom_kills: u64,
}
