//! Secrets: values go in and never come out.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use soulbox_model::SecretValue;
use utoipa::ToSchema;

/// Body of `POST /secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewSecret {
    /// 1 to 128 of a-z, A-Z, 0-9, - and _; case does not count; not `sec_…`.
    pub name: String,
    #[schema(value_type = String)]
    pub value: SecretValue,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Body of `POST /secrets/{secretID}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretUpdate {
    #[schema(value_type = String)]
    pub value: SecretValue,
    /// Absent keeps it; what is here replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// `sec_…`.
    #[serde(rename = "secretID")]
    pub secret_id: String,
    pub name: String,
    /// One more with each new value.
    pub current_version: u32,
    pub metadata: BTreeMap<String, String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Body of `PUT /soulbox/v1/secrets/{name}`; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// Needed for a secret that is not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub value: Option<SecretValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Domains and `*.domain` that the value may be sent to; an empty list binds it to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
}

/// A secret with what E2B's does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoundSecret {
    #[serde(flatten)]
    pub secret: Secret,
    /// Where the value may be sent; empty: wherever a rule of the team says.
    pub hosts: Vec<String>,
}
