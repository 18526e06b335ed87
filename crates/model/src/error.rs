//! The one error of the platform: stable codes, HTTP statuses, and what a retry may do.
//!
//! Every layer converts its own error into this one where it crosses into `control`, and keeps
//! the cause. The code appears in the HTTP body, the CLI and the logs.

use std::time::Duration;

use crate::SandboxId;

pub type Result<T, E = Error> = std::result::Result<T, E>;
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, at the level that a user can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sandbox could not be created: {reason}")]
    SandboxCreation {
        reason: String,
        sandbox_id: Option<SandboxId>,
        /// Whether the same request may succeed later, as the cause says.
        retryable: bool,
        #[source]
        source: Option<BoxError>,
    },
    #[error("sandbox {sandbox_id} did not start within {timeout_ms} ms")]
    SandboxStartupTimeout { timeout_ms: u64, sandbox_id: SandboxId },
    #[error("{operation} to {endpoint} timed out after {duration_ms} ms")]
    NetworkTimeout { operation: String, endpoint: String, duration_ms: u64 },
    #[error("connection lost after {attempts} reconnect attempts: {reason}")]
    ConnectionLost { reason: String, attempts: u32 },
    #[error("authentication by {method} failed: {message}")]
    Authentication { method: &'static str, message: String, retry_after: Option<Duration> },
    #[error("missing permission `{permission}`")]
    Permission { permission: String, user_id: Option<String> },
    #[error("{resource} limit reached: {current} of {limit}")]
    ResourceLimit { resource: String, current: u64, limit: u64 },
    #[error("configuration: {field}: {message}")]
    Configuration { field: String, message: String, span: Option<std::ops::Range<usize>> },
    #[error("{kind} `{id}` not found")]
    NotFound { kind: &'static str, id: String },
    #[error("{0}")]
    Conflict(String),
    #[error("{field}: {message}")]
    InvalidRequest { field: String, message: String },
    #[error("{reason}")]
    Unavailable { reason: String, retry_after: Option<Duration> },
    #[error("{feature} is not implemented by this server")]
    NotImplemented { feature: String },
    #[error("internal error: {context}")]
    Internal {
        context: String,
        #[source]
        source: Option<BoxError>,
    },
}

impl Error {
    pub fn not_found(kind: &'static str, id: impl ToString) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }

    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidRequest { field: field.into(), message: message.into() }
    }

    pub fn internal(context: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Internal { context: context.into(), source: Some(source.into()) }
    }

    pub fn unavailable(reason: impl Into<String>, retry_after: Duration) -> Self {
        Self::Unavailable { reason: reason.into(), retry_after: Some(retry_after) }
    }

    /// Stable for ever; documented for users.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SandboxCreation { .. } => "SB-CREATE",
            Self::SandboxStartupTimeout { .. } => "SB-STARTUP-TIMEOUT",
            Self::NetworkTimeout { .. } => "SB-NET-TIMEOUT",
            Self::ConnectionLost { .. } => "SB-CONN-LOST",
            Self::Authentication { .. } => "SB-AUTH",
            Self::Permission { .. } => "SB-PERMISSION",
            Self::ResourceLimit { .. } => "SB-LIMIT",
            Self::Configuration { .. } => "SB-CONFIG",
            Self::NotFound { .. } => "SB-NOT-FOUND",
            Self::Conflict(_) => "SB-CONFLICT",
            Self::InvalidRequest { .. } => "SB-INVALID",
            Self::Unavailable { .. } => "SB-UNAVAILABLE",
            Self::NotImplemented { .. } => "SB-NOT-IMPLEMENTED",
            Self::Internal { .. } => "SB-INTERNAL",
        }
    }

    pub fn http_status(&self) -> u16 {
        match self {
            Self::InvalidRequest { .. } | Self::Configuration { .. } => 400,
            Self::Authentication { .. } => 401,
            Self::Permission { .. } => 403,
            Self::NotFound { .. } => 404,
            Self::Conflict(_) => 409,
            Self::ResourceLimit { .. } => 429,
            Self::NotImplemented { .. } => 501,
            Self::ConnectionLost { .. } => 502,
            Self::Unavailable { .. } => 503,
            Self::SandboxCreation { retryable: true, .. } => 503,
            Self::NetworkTimeout { .. } | Self::SandboxStartupTimeout { .. } => 504,
            Self::SandboxCreation { .. } | Self::Internal { .. } => 500,
        }
    }

    pub fn retryable(&self) -> bool {
        match self {
            Self::SandboxCreation { retryable, .. } => *retryable,
            Self::SandboxStartupTimeout { .. }
            | Self::NetworkTimeout { .. }
            | Self::ConnectionLost { .. }
            | Self::Unavailable { .. } => true,
            Self::Authentication { retry_after, .. } => retry_after.is_some(),
            _ => false,
        }
    }

    /// The delay that this error itself asks for; `None` leaves it to the retry policy.
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::NetworkTimeout { .. } => Some(Duration::from_secs(2)),
            Self::ConnectionLost { attempts, .. } => {
                Some(Duration::from_secs(1 << (*attempts).min(6)).min(Duration::from_secs(60)))
            }
            Self::Authentication { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}
