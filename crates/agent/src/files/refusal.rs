//! Why a request to `/files` is not done.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::{fs, paths::PathError, reply, users::NoUser};

pub type Result<T, E = Refusal> = std::result::Result<T, E>;

/// An HTTP status with a message for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }
}

impl From<fs::Error> for Refusal {
    fn from(error: fs::Error) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<fs::actor::UnknownUser> for Refusal {
    fn from(unknown: fs::actor::UnknownUser) -> Self {
        if let NoUser::Unreadable(why) = unknown.why {
            return Self::new(StatusCode::INTERNAL_SERVER_ERROR, why.to_string());
        }
        let name = unknown.name;
        if name.is_empty() {
            return Self::bad_request("no user is named and there is no default user");
        }
        Self::unauthorized(format!("error looking up user '{name}': user: unknown user {name}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        reply::error(self.status, &self.message)
    }
}
