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
    NetworkTimeout {
        operation: String,
        endpoint: String,
        duration_ms: u64,
        #[source]
        source: Option<BoxError>,
    },
    #[error("connection lost after {attempts} reconnect attempt{}: {reason}", plural(*attempts))]
    ConnectionLost {
        reason: String,
        attempts: u32,
        #[source]
        source: Option<BoxError>,
    },
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
    Unavailable {
        reason: String,
        retry_after: Option<Duration>,
        #[source]
        source: Option<BoxError>,
    },
    #[error("{feature} is not implemented by this server")]
    NotImplemented { feature: String },
    #[error("internal error: {context}")]
    Internal {
        context: String,
        #[source]
        source: Option<BoxError>,
    },
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl Error {
    /// Every code, each documented in a paragraph of its own in `docs/errors.md`.
    pub const CODES: [&str; 14] = [
        "SB-INVALID",
        "SB-CONFIG",
        "SB-AUTH",
        "SB-PERMISSION",
        "SB-NOT-FOUND",
        "SB-CONFLICT",
        "SB-LIMIT",
        "SB-CREATE",
        "SB-INTERNAL",
        "SB-NOT-IMPLEMENTED",
        "SB-CONN-LOST",
        "SB-UNAVAILABLE",
        "SB-NET-TIMEOUT",
        "SB-STARTUP-TIMEOUT",
    ];

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
        Self::Unavailable { reason: reason.into(), retry_after: Some(retry_after), source: None }
    }

    /// Something broke before anything came back; not reconnected yet, or a
    /// [`RetryPolicy`](crate::RetryPolicy) says how often.
    pub fn lost(reason: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::ConnectionLost { reason: reason.into(), attempts: 0, source: Some(source.into()) }
    }

    /// Nothing came back of `operation` in `limit`.
    pub fn timed_out(
        operation: impl Into<String>,
        endpoint: impl Into<String>,
        limit: Duration,
    ) -> Self {
        Self::NetworkTimeout {
            operation: operation.into(),
            endpoint: endpoint.into(),
            duration_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            source: None,
        }
    }

    /// The same, with what made it so.
    #[must_use]
    pub fn because(mut self, cause: impl Into<BoxError>) -> Self {
        if let Self::SandboxCreation { source, .. }
        | Self::NetworkTimeout { source, .. }
        | Self::ConnectionLost { source, .. }
        | Self::Unavailable { source, .. }
        | Self::Internal { source, .. } = &mut self
        {
            *source = Some(cause.into());
        }
        self
    }

    /// The same of a field that lies inside `outer`.
    #[must_use]
    pub fn below(self, outer: &str) -> Self {
        match self {
            Self::InvalidRequest { field, message } => {
                Self::InvalidRequest { field: format!("{outer}.{field}"), message }
            }
            other => other,
        }
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn lost(attempts: u32) -> Error {
        Error::ConnectionLost { reason: "reset".into(), attempts, source: None }
    }

    fn denied(retry_after: Option<Duration>) -> Error {
        Error::Authentication { method: "API key", message: "unknown".into(), retry_after }
    }

    fn creation(retryable: bool) -> Error {
        Error::SandboxCreation { reason: "x".into(), sandbox_id: None, retryable, source: None }
    }

    /// Every variant with its code, status, and whether and when it may be retried.
    fn table() -> Vec<(Error, &'static str, u16, bool, Option<u64>)> {
        let id = SandboxId::random();
        let timeout = Error::timed_out("read", "x", Duration::from_millis(5));
        let startup = Error::SandboxStartupTimeout { timeout_ms: 5, sandbox_id: id };
        let permission = Error::Permission { permission: "keys".into(), user_id: None };
        let limit = Error::ResourceLimit { resource: "sandboxes".into(), current: 2, limit: 2 };
        let config =
            Error::Configuration { field: "port".into(), message: "x".into(), span: Some(3..4) };
        let forever = Error::Unavailable { reason: "x".into(), retry_after: None, source: None };
        let briefly = Error::unavailable("x", Duration::from_secs(3));
        let later = Error::NotImplemented { feature: "pausing".into() };
        vec![
            (creation(false), "SB-CREATE", 500, false, None),
            (creation(true), "SB-CREATE", 503, true, None),
            (startup, "SB-STARTUP-TIMEOUT", 504, true, None),
            (timeout, "SB-NET-TIMEOUT", 504, true, Some(2)),
            (lost(0), "SB-CONN-LOST", 502, true, Some(1)),
            (lost(3), "SB-CONN-LOST", 502, true, Some(8)),
            (lost(u32::MAX), "SB-CONN-LOST", 502, true, Some(60)),
            (denied(None), "SB-AUTH", 401, false, None),
            (denied(Some(Duration::from_secs(9))), "SB-AUTH", 401, true, Some(9)),
            (permission, "SB-PERMISSION", 403, false, None),
            (limit, "SB-LIMIT", 429, false, None),
            (config, "SB-CONFIG", 400, false, None),
            (Error::not_found("sandbox", "i1"), "SB-NOT-FOUND", 404, false, None),
            (Error::Conflict("x".into()), "SB-CONFLICT", 409, false, None),
            (Error::invalid("timeout", "x"), "SB-INVALID", 400, false, None),
            (forever, "SB-UNAVAILABLE", 503, true, None),
            (briefly, "SB-UNAVAILABLE", 503, true, Some(3)),
            (later, "SB-NOT-IMPLEMENTED", 501, false, None),
            (Error::internal("x", "cause"), "SB-INTERNAL", 500, false, None),
        ]
    }

    #[test]
    fn each_error_is_as_documented() {
        for (error, code, status, retryable, delay) in table() {
            assert_eq!(error.code(), code, "{error}");
            assert_eq!(error.http_status(), status, "{error}");
            assert_eq!(error.retryable(), retryable, "{error}");
            assert_eq!(error.retry_delay(), delay.map(Duration::from_secs), "{error}");
        }
    }

    #[test]
    fn every_variant_has_a_code_of_its_own() {
        let variants: HashSet<_> =
            table().into_iter().map(|row| (std::mem::discriminant(&row.0), row.1)).collect();
        let codes: HashSet<_> = variants.iter().map(|(_, code)| *code).collect();
        assert_eq!(variants.len(), codes.len());
        assert_eq!(codes, HashSet::from(Error::CODES));
    }

    #[test]
    fn the_documented_table_is_what_holds() {
        const PAGE: &str = include_str!("../../../docs/errors.md");
        for (error, code, status, retryable, _) in table() {
            let row = PAGE.lines().find(|line| line.starts_with(&format!("| `{code}` |")));
            let row = row.unwrap_or_else(|| panic!("{code} has no row"));
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [_, statuses, _, again] = cells[..] else { panic!("{row}") };
            assert!(
                statuses.split(" or ").any(|documented| documented == status.to_string()),
                "{row}"
            );
            let told = match again {
                text if text.starts_with("yes") => Some(true),
                "no" => Some(false),
                // As the error itself says.
                _ => None,
            };
            assert!(told.is_none_or(|told| told == retryable), "{row}: {error}");
        }
    }

    #[test]
    fn what_may_pass_keeps_its_cause() {
        let second = Duration::from_secs(1);
        for error in [
            creation(true),
            lost(1),
            Error::timed_out("read", "x", second),
            Error::unavailable("busy", second),
            Error::lost("reset", "before"),
        ] {
            let told = error.to_string();
            let error = error.because(std::io::Error::other("the wire"));
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            assert_eq!((cause.as_deref(), error.to_string()), (Some("the wire"), told));
        }
    }

    #[test]
    fn the_cause_is_kept() {
        let error = Error::internal("reading the row", std::io::Error::other("disk on fire"));
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("disk on fire"));
        assert_eq!(error.to_string(), "internal error: reading the row");
    }

    proptest! {
        #[test]
        fn the_delay_after_a_lost_connection_doubles_up_to_a_minute(attempts in any::<u32>()) {
            let expected = 2f64.powi(attempts.min(10) as i32).min(60.0);
            let delay = lost(attempts).retry_delay().map(|delay| delay.as_secs_f64());
            prop_assert_eq!(delay, Some(expected));
        }
    }
}
