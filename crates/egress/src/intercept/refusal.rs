//! Why a request is not answered by the host.

use http::StatusCode;

use super::HEADERS;
use crate::{Reason, dial::Undialled};

pub(super) enum Failure {
    Refused(Refusal),
    Unreachable(String),
}

pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// What decided.
    pub(super) rule: String,
    pub(super) why: String,
    /// After so many seconds it may be tried again.
    pub(super) again: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, rule: &str, why: impl Into<String>) -> Self {
        Self { status, rule: rule.to_owned(), why: why.into(), again: None }
    }

    pub(super) fn too_long() -> Self {
        let why = format!("the headers of a request have at most {HEADERS} bytes");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers", why)
    }
}

impl Failure {
    pub(super) fn refused(status: StatusCode, rule: &str, why: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(status, rule, why))
    }

    /// By what the owner lets be asked of the host.
    pub(super) fn not_allowed(why: impl Into<String>) -> Self {
        Self::refused(StatusCode::FORBIDDEN, "requests", why)
    }

    /// It had all the bytes that it may have.
    pub(super) fn used_up(reason: &Reason) -> Self {
        Self::refused(StatusCode::TOO_MANY_REQUESTS, &reason.rule(), reason.to_string())
    }
}

impl From<Undialled> for Failure {
    fn from(undialled: Undialled) -> Self {
        match undialled {
            Undialled::Refused(reason @ Reason::UsedUp(_)) => Self::used_up(&reason),
            Undialled::Refused(reason) => Self::not_allowed(reason.to_string()),
            Undialled::Failed(error) => Self::Unreachable(error.to_string()),
        }
    }
}
