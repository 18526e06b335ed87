//! Teams and their API keys.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One row of `GET /teams`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Team {
    #[serde(rename = "teamID")]
    pub team_id: String,
    pub name: String,
    /// The key that the request came with.
    pub api_key: String,
    pub is_default: bool,
}

/// One row of `GET /api-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// A UUID.
    pub id: String,
    pub name: String,
    pub mask: KeyMask,
    pub created_at: DateTime<Utc>,
    /// Always `null`: the server has no users.
    #[schema(value_type = Option<Object>)]
    pub created_by: Option<serde_json::Value>,
    /// `null` when it never was.
    pub last_used: Option<DateTime<Utc>>,
}

/// A key as it may be shown; all but the ends is hidden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyMask {
    pub prefix: String,
    /// Length of the key without its prefix.
    pub value_length: u32,
    pub masked_value_prefix: String,
    pub masked_value_suffix: String,
}

/// Body of `POST /api-keys` and `PATCH /api-keys/{keyID}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewApiKey {
    /// 1 to 128 characters.
    #[schema(min_length = 1, max_length = 128)]
    pub name: String,
}

/// The answer to `POST /api-keys`: the only time that the key is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedApiKey {
    /// A UUID.
    pub id: String,
    pub name: String,
    pub key: String,
    pub mask: KeyMask,
    pub created_at: DateTime<Utc>,
    #[schema(value_type = Option<Object>)]
    pub created_by: Option<serde_json::Value>,
    pub last_used: Option<DateTime<Utc>>,
}
