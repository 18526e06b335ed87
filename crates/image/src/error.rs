//! What can go wrong with a template.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How long a client should wait before it asks again for a template that is being built.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Cloneable, because everybody who waited for one build gets the same answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("template `{0}` not found")]
    Unknown(String),
    /// `state` says how far the build is.
    #[error("template `{name}` is not ready: {state}")]
    NotReady { name: String, state: String, retry: bool },
    #[error("{action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("`{tool}` is not installed: run `apt-get install {package}`")]
    ToolMissing { tool: &'static str, package: &'static str },
    #[error("only root can build a template: run this as root or with sudo")]
    NotRoot,
    /// This machine cannot have that template; the text says why and what to do.
    #[error("{0}")]
    Unsupported(String),
    /// `log` is the end of what the build wrote.
    #[error("building template `{name}` failed: {advice}\n{log}")]
    Build { name: String, advice: String, log: String },
    /// `0` is how many there may be.
    #[error(
        "there are {0} derived templates already: `soulbox template prune` removes those that nobody uses"
    )]
    Full(usize),
    #[error(
        "derived templates that are not built yet hold {0} MiB of files: try again when they are built"
    )]
    Busy(usize),
    #[error("building template `{0}` was cancelled")]
    Cancelled(String),
    /// On somebody's request.
    #[error("the build of template `{0}` was stopped")]
    Stopped(String),
    /// There is no place for the sandbox that it would be built in.
    #[error(
        "{resource}: {current} of {limit} are taken: end some, or try again when they have ended"
    )]
    Crowded { resource: String, current: u64, limit: u64 },
}

impl Error {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source: Arc::new(source) }
    }
}

impl From<Error> for soulbox_model::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Unknown(name) => Self::not_found("template", name),
            Error::NotReady { retry, .. } => Self::Unavailable {
                reason: error.to_string(),
                retry_after: retry.then_some(RETRY_AFTER),
                source: Some(Box::new(error)),
            },
            Error::Cancelled(_) | Error::Busy(_) => {
                Self::unavailable(error.to_string(), RETRY_AFTER).because(error)
            }
            Error::Stopped(_) => Self::Conflict(error.to_string()),
            Error::Crowded { resource, current, limit } => {
                Self::ResourceLimit { resource, current, limit }
            }
            Error::Full(limit) => Self::ResourceLimit {
                resource: "derived templates".into(),
                current: limit as u64,
                limit: limit as u64,
            },
            Error::ToolMissing { .. } | Error::NotRoot | Error::Unsupported(_) => {
                let reason = error.to_string();
                Self::Unavailable { reason, retry_after: None, source: Some(Box::new(error)) }
            }
            Error::Io { .. } | Error::Build { .. } => Self::internal("template", error),
        }
    }
}
