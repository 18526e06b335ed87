//! Sandboxes: creating, listing, and the small requests of their life.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Network, RequestRules};

/// Body of `POST /sandboxes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewSandbox {
    /// Name or id of a template, `[namespace/]name[:tag]`.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Seconds until the sandbox ends by itself; 15 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
    /// Whether the agent asks for the access token. Clients before 1.5 can't send one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause_memory: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_resume: Option<AutoResume>,
    #[serde(default, rename = "allow_internet_access", skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    /// Not how clients spell it; kept to refuse a `false`, whose sender thinks the sandbox closed.
    #[serde(default, rename = "allowInternetAccess", skip_serializing)]
    #[schema(ignore)]
    pub misspelt_internet_access: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Added to the environment of every command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Read by the client alone, which starts the MCP gateway itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub mcp: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub iam: Option<serde_json::Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Vec<VolumeMount>>,
    /// SoulBox's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soulbox: Option<SandboxShape>,
}

/// How a sandbox differs from the others of its server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SandboxShape {
    /// Thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What may be written to the root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Set-user-id files, `sudo` among them, gain nothing.
    #[serde(default)]
    pub no_setuid: bool,
    /// Nothing can be written but `/tmp` and `/run`, which lie in memory.
    #[serde(default)]
    pub read_only: bool,
    /// The only ports that the gateway leads to, beside the agent's, 256 at most; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 256)]
    pub ports: Option<Vec<u32>>,
    /// Which requests hosts get, as `PUT /soulbox/v1/sandboxes/{sandboxID}/requests` puts it, before
    /// anything inside runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestRules>,
}

/// Body of `POST /v2/sandboxes`: always secured, and 300 seconds when no timeout is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewSandboxV2 {
    /// Name or id of a template, `[namespace/]name[:tag]`.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Seconds until the sandbox ends by itself; 300 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause_memory: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_resume: Option<AutoResume>,
    #[serde(default, rename = "allow_internet_access", skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    /// Not how clients spell it; kept to refuse a `false`, whose sender thinks the sandbox closed.
    #[serde(default, rename = "allowInternetAccess", skip_serializing)]
    #[schema(ignore)]
    pub misspelt_internet_access: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Added to the environment of every command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Read by the client alone, which starts the MCP gateway itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub mcp: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub iam: Option<serde_json::Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Vec<VolumeMount>>,
    /// SoulBox's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soulbox: Option<SandboxShape>,
}

impl NewSandboxV2 {
    /// Seconds of life when the request names none.
    pub const DEFAULT_TIMEOUT: i32 = 300;
}

impl From<NewSandboxV2> for NewSandbox {
    fn from(v2: NewSandboxV2) -> Self {
        Self {
            template_id: v2.template_id,
            timeout: Some(v2.timeout.unwrap_or(NewSandboxV2::DEFAULT_TIMEOUT)),
            secure: Some(true),
            auto_pause: v2.auto_pause,
            auto_pause_memory: v2.auto_pause_memory,
            auto_resume: v2.auto_resume,
            allow_internet_access: v2.allow_internet_access,
            misspelt_internet_access: v2.misspelt_internet_access,
            network: v2.network,
            metadata: v2.metadata,
            env_vars: v2.env_vars,
            mcp: v2.mcp,
            iam: v2.iam,
            volume_mounts: v2.volume_mounts,
            soulbox: v2.soulbox,
        }
    }
}

/// Whether a request to a paused sandbox wakes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AutoResume {
    pub enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeMount {
    pub name: String,
    /// Absolute path inside the sandbox.
    pub path: String,
}

/// A sandbox as create, connect and resume answer it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// Id of the template, whatever name the request used.
    #[serde(rename = "templateID")]
    pub template_id: String,
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    /// Deprecated, but required by every client.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Clients choose their behaviour by it.
    pub envd_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What the agent wants in `X-Access-Token`; absent when it wants nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<String>,
    /// What the gateway wants for ports that are not public; `null` when all are.
    #[serde(default)]
    pub traffic_access_token: Option<String>,
    /// Where the sandbox's host names live; `null` leaves it to the client.
    #[serde(default)]
    pub domain: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SandboxState {
    Running,
    Paused,
}

/// One row of `GET /sandboxes` and `GET /v2/sandboxes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedSandbox {
    #[serde(rename = "templateID")]
    pub template_id: String,
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    #[serde(rename = "clientID")]
    pub client_id: String,
    pub started_at: DateTime<Utc>,
    pub end_at: DateTime<Utc>,
    pub cpu_count: u32,
    /// MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u64,
    /// MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u64,
    pub state: SandboxState,
    pub envd_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub volume_mounts: Vec<VolumeMount>,
}

/// Body of `GET /sandboxes/{sandboxID}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxDetail {
    #[serde(rename = "templateID")]
    pub template_id: String,
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    #[serde(rename = "clientID")]
    pub client_id: String,
    pub started_at: DateTime<Utc>,
    pub end_at: DateTime<Utc>,
    pub cpu_count: u32,
    /// MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u64,
    /// MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u64,
    pub state: SandboxState,
    pub envd_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<String>,
    /// As the create request said; `null` when it said nothing.
    #[serde(default)]
    pub allow_internet_access: Option<bool>,
    /// Without passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    #[serde(default)]
    pub domain: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    #[serde(default)]
    pub volume_mounts: Vec<VolumeMount>,
    /// SoulBox's own; absent where there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soulbox: Option<Exposure>,
}

/// Which ports of a sandbox the gateway leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exposure {
    /// These alone, beside the agent's.
    pub ports: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    pub on_timeout: OnTimeout,
    pub auto_resume: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    Kill,
    Pause,
}

/// Body of `POST /sandboxes/{sandboxID}/timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timeout {
    /// Seconds from now; 0 or less ends the sandbox at once.
    pub timeout: i32,
}

/// Body of `POST /sandboxes/{sandboxID}/refreshes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refresh {
    /// Seconds from now, 0 to 3600; at least 15 take effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 3600)]
    pub duration: Option<i32>,
}

/// Body of `POST /sandboxes/{sandboxID}/connect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connect {
    /// Seconds that the sandbox must at least live on.
    pub timeout: i32,
    /// Whether a paused sandbox gets its memory back; nothing to a running one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}

/// Body of `POST /v2/sandboxes/{sandboxID}/connect`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectV2 {
    /// Seconds that the sandbox must at least live on; 300 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
    /// Whether a paused sandbox gets its memory back; nothing to a running one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}

/// Body of `POST /sandboxes/{sandboxID}/resume`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resume {
    /// Seconds of life after the resume; 15 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause: Option<bool>,
}
