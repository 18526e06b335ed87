//! What can go wrong with files, with the Connect code and the HTTP status of each case.

use std::io;

use connectrpc::{ConnectError, ErrorCode};
use http::StatusCode;
use rustix::io::Errno;

use crate::paths::PathError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    AlreadyExists(String),
    /// The file system refuses in its present state, as with a loop of symbolic links.
    #[error("{0}")]
    Precondition(String),
    /// A bound of the agent was reached.
    #[error("{0}")]
    TooMuch(String),
    #[error("{0}")]
    Internal(String),
    #[error("not enough disk space available: {0}")]
    NoSpace(String),
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Sorts an error of the kernel by what the caller can do about it; `what` says what was tried.
    pub fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let (what, source) = (what.into(), source.into());
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace(what),
            Some(Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ) => {
                Self::Invalid(format!("{what}: {source}"))
            }
            _ => Self::Io { what, source },
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidArgument,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::AlreadyExists(_) => ErrorCode::AlreadyExists,
            Self::Precondition(_) => ErrorCode::FailedPrecondition,
            Self::TooMuch(_) => ErrorCode::ResourceExhausted,
            Self::Internal(_) | Self::NoSpace(_) | Self::Io { .. } => ErrorCode::Internal,
        }
    }

    /// The status of a plain HTTP answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Precondition(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::AlreadyExists(_) => StatusCode::CONFLICT,
            Self::TooMuch(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Io { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::LOOP) => StatusCode::BAD_REQUEST,
                Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => StatusCode::FORBIDDEN,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use soulbox_model::Error as Platform;

    use super::*;

    #[test]
    fn every_error_has_a_code_of_the_platform() {
        let text = || "x".to_owned();
        let io = |errno: Errno| Error::io("x", errno);
        for (error, code) in [
            (Error::Invalid(text()), "SB-INVALID"),
            (Error::Precondition(text()), "SB-INVALID"),
            (Error::NotFound(text()), "SB-NOT-FOUND"),
            (Error::AlreadyExists(text()), "SB-CONFLICT"),
            (Error::TooMuch(text()), "SB-INVALID"),
            (Error::Internal(text()), "SB-INTERNAL"),
            (io(Errno::NOSPC), "SB-LIMIT"),
            (io(Errno::ACCESS), "SB-PERMISSION"),
            (io(Errno::ROFS), "SB-PERMISSION"),
            (io(Errno::IO), "SB-INTERNAL"),
            (PathError::Nul.into(), "SB-INVALID"),
        ] {
            assert_eq!(Platform::code_of_status(error.status().as_u16()), code, "{error:?}");
        }
    }
}
