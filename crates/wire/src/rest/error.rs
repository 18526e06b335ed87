//! The body of every answer that is no success.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `code` and `message` are what E2B's clients read; they decide by `code` as often as by the
/// HTTP status, so both are always equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// The HTTP status.
    pub code: u16,
    pub message: String,
    /// A word of E2B's open set that newer clients choose their exception by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// SoulBox's own view of the error; absent in answers of other servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soulbox: Option<ErrorDetail>,
}

/// What SoulBox adds to E2B's error body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable code such as `SB-NOT-FOUND`; the same in the CLI and in the logs.
    pub code: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// How long to wait before that, in milliseconds, when the server knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Of a lost connection: how often the server tried to reconnect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}
