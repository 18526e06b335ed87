//! Templates as E2B's clients see them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One row of `GET /templates` and `GET /v2/templates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// A UUID; clients parse it.
    #[serde(rename = "buildID")]
    pub build_id: String,
    pub cpu_count: u32,
    /// MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u64,
    /// MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u64,
    pub public: bool,
    pub aliases: Vec<String>,
    pub names: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// `null` for templates that the server made itself.
    pub created_by: Option<TemplateUser>,
    /// `null` when it never was.
    pub last_spawned_at: Option<DateTime<Utc>>,
    pub spawn_count: u64,
    pub build_count: u32,
    pub envd_version: String,
    pub build_status: BuildStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateUser {
    /// A UUID.
    pub id: String,
    pub email: Option<String>,
}

/// Clients know these words alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuildStatus {
    Building,
    Waiting,
    Ready,
    Error,
}

/// Body of `GET /templates/aliases/{alias}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateAlias {
    #[serde(rename = "templateID")]
    pub template_id: String,
    pub public: bool,
}
