//! Every answer that is no success.

use std::{error::Error as _, fmt::Write as _};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use soulbox_model::Error;
use soulbox_wire::rest::{ErrorBody, ErrorDetail};

/// Tells clients that retry by themselves whether they should.
const SHOULD_RETRY: &str = "should-retry";

/// An [`Error`] with what HTTP adds to it.
#[derive(Debug)]
pub struct Problem {
    error: Box<Error>,
    status: StatusCode,
    error_code: Option<&'static str>,
    may_retry: bool,
}

pub type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    /// `error` under another status than its own.
    pub fn with_status(error: Error, status: StatusCode) -> Self {
        Self { status, ..Self::from(error) }
    }

    /// A request that breaks the schema of its route.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Error::invalid(field, message).into()
    }

    pub fn not_implemented(feature: impl Into<String>) -> Self {
        Error::NotImplemented { feature: feature.into() }.into()
    }

    pub fn unauthorized(method: &'static str, message: impl Into<String>) -> Self {
        Error::Authentication { method, message: message.into(), retry_after: None }.into()
    }

    /// A word of E2B's open set that newer clients choose their exception by.
    #[must_use]
    pub fn error_code(mut self, word: &'static str) -> Self {
        self.error_code = Some(word);
        self
    }

    /// Forbids the retry that the error itself would allow, since the request may have had effect.
    #[must_use]
    pub fn not_again(mut self) -> Self {
        self.may_retry = false;
        self
    }

    #[cfg(test)]
    pub fn error(&self) -> &Error {
        &self.error
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn body(&self) -> ErrorBody {
        let retryable = self.may_retry && self.error.retryable();
        let delay = self.error.retry_delay().filter(|_| retryable);
        let attempts = match *self.error {
            Error::ConnectionLost { attempts, .. } => Some(attempts),
            _ => None,
        };
        ErrorBody {
            code: self.status.as_u16(),
            message: self.error.to_string(),
            error_code: self.error_code.map(str::to_owned),
            soulbox: Some(ErrorDetail {
                code: self.error.code().to_owned(),
                retryable,
                retry_after_ms: delay
                    .map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
                attempts,
            }),
        }
    }

    /// The cause chain goes to the log alone; a client sees the outermost message.
    fn log(&self) {
        if !self.status.is_server_error() || self.status == StatusCode::NOT_IMPLEMENTED {
            return;
        }
        let mut text = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(inner) = cause {
            let _ = write!(text, ": {inner}");
            cause = inner.source();
        }
        tracing::error!(code = self.error.code(), status = self.status.as_u16(), "{text}");
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status =
            StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { error: Box::new(error), status, error_code: None, may_retry: true }
    }
}

/// The [`Error::code`] of an answer, for whoever logs it.
#[derive(Debug, Clone, Copy)]
pub struct AnsweredCode(pub &'static str);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.log();
        let body = self.body();
        let code = AnsweredCode(self.error.code());
        let mut response = (self.status, axum::Json(&body)).into_response();
        response.extensions_mut().insert(code);
        let detail = body.soulbox.unwrap_or(ErrorDetail {
            code: String::new(),
            retryable: false,
            retry_after_ms: None,
            attempts: None,
        });
        let headers = response.headers_mut();
        if let Some(ms) = detail.retry_after_ms {
            // Whole seconds, rounded up: clients parse nothing finer.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000).max(1)));
        }
        // Newer clients repeat any 429 and 5xx unless told otherwise, creates included.
        if self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS {
            let word = if detail.retryable { "true" } else { "false" };
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(word));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_says_how_often_it_was_tried_and_when_to_ask_again() {
        let lost = Error::ConnectionLost { reason: "reset".into(), attempts: 2, source: None };
        let body = serde_json::to_value(Problem::from(lost).body()).unwrap();
        assert_eq!(body["message"], "connection lost after 2 reconnect attempts: reset");
        let ours = serde_json::json!({
            "code": "SB-CONN-LOST", "retryable": true, "retry_after_ms": 4000, "attempts": 2,
        });
        assert_eq!(body["soulbox"], ours);
        let other = serde_json::to_value(Problem::invalid("timeout", "x").body()).unwrap();
        assert!(other["soulbox"].get("attempts").is_none());
    }
}
