//! SoulBox's own API below `/soulbox/v1`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use soulbox_model::network::Demands;
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
#[serde(deny_unknown_fields)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestRules {
    /// `METHOD[,METHOD] host/path`, as in `GET,POST api.example.com/v1/*`. A host that one of these
    /// names gets what they allow and nothing else.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Host or `*.domain` → requests a minute, 1 to 1,000,000.
    #[serde(default)]
    pub per_minute: BTreeMap<String, u32>,
    /// Address, range, host, `*.domain` or `*` → bytes over the life of the sandbox. A connection counts
    /// against each entry that its destination is in, and is cut when one is used up.
    #[serde(default)]
    pub bytes: BTreeMap<String, ByteLimit>,
    /// `destination:port`, as in `192.0.2.1:123`, `[2001:db8::/32]:123` or `*.example.com:443`: where
    /// datagrams may go. All others are refused.
    #[serde(default)]
    pub udp: Vec<String>,
}

impl From<&Demands> for RequestRules {
    fn from(Demands { requests, rates, bytes, udp }: &Demands) -> Self {
        let limit = |limit: &soulbox_model::network::ByteLimit| {
            let numbers = ByteLimit { sent: limit.sent, received: limit.received };
            (limit.destination.to_string(), numbers)
        };
        Self {
            allow: requests.iter().map(ToString::to_string).collect(),
            per_minute: rates.iter().map(|rate| (rate.host.to_string(), rate.per_minute)).collect(),
            bytes: bytes.iter().map(limit).collect(),
            udp: udp.iter().map(ToString::to_string).collect(),
        }
    }
}

/// How many bytes a destination may get and give; one of both at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ByteLimit {
    /// Out of the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub sent: Option<u64>,
    /// Into the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub received: Option<u64>,
}

/// One line of what goes out of a sandbox: a decision, or the end of what it let through. It holds no
/// path, no query and no header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkEvent {
    /// Its number; they count up from 0.
    pub number: u64,
    pub decision: NetworkDecision,
    /// With `lost`: so many events from this number on were forgotten before they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<DateTime<Utc>>,
    /// `tcp`, `udp`, `http` or `dns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What decided: a rule of the sandbox, or `default`, `default deny`, `special ranges` and their like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it was denied, failed, or ended before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same number in the begin and the end of one flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<u64>,
    /// Bytes out of the sandbox until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkDecision {
    Allowed,
    Denied,
    /// It was allowed, and its destination could not be reached.
    Failed,
    /// What was allowed is over.
    Ended,
    /// No event: the reader was too slow.
    Lost,
}

/// What a sandbox exchanged with the world since the server began to serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkUsage {
    /// Bytes out of the sandbox.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Connections, requests and questions that were let through.
    pub allowed: u64,
    pub denied: u64,
    /// Let through, to a destination that could not be reached.
    #[serde(default)]
    pub failed: u64,
}

/// Names of their own that lead to a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxDomains {
    /// Host names, at most 32; each leads to one sandbox of the server.
    pub domains: Vec<String>,
    /// The port that they lead to; needed unless there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
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
    /// When the build began, while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building_since: Option<DateTime<Utc>>,
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
    /// Absolute directories of programs, before those of the parent's `PATH`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// Absolute directory that commands run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Whether its steps reach the internet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internet: bool,
    /// Seconds for unpacking and all steps together; 1200 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1200)]
    pub timeout: Option<u64>,
    /// Stop the build when nobody has asked for its state in 10 seconds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub watched: bool,
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
    /// Try it again, a few times, when its last words say that the network failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
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
    /// Absent from servers that do not count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkUsage>,
}
