//! What an engine can fail with.

use soulbox_model::{Port, SandboxId};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One stage of making or ending a sandbox failed.
    #[error("{stage}: {source}")]
    Stage {
        stage: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// The agent came up but could not become the sandbox.
    #[error("agent: {step}: {error}")]
    Agent { step: String, error: String },
    #[error("the agent did not answer within {timeout_ms} ms")]
    StartupTimeout { id: SandboxId, timeout_ms: u64 },
    #[error("sandbox {0} is not alive")]
    Gone(SandboxId),
    /// A limit of this server: all uid ranges or store space in use.
    #[error("{resource} exhausted: {current} of {limit} in use")]
    Exhausted { resource: &'static str, current: u64, limit: u64 },
    /// The machine lacks something that the engine needs; the text says what to do.
    #[error("{0}")]
    Unsupported(String),
}

impl Error {
    pub fn stage(stage: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Stage { stage, source }
    }
}

impl From<Error> for soulbox_model::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::StartupTimeout { id, timeout_ms } => {
                Self::SandboxStartupTimeout { timeout_ms, sandbox_id: id }
            }
            Error::Gone(id) => Self::not_found("sandbox", id),
            Error::Exhausted { resource, current, limit } => {
                Self::ResourceLimit { resource: resource.into(), current, limit }
            }
            other => Self::SandboxCreation {
                reason: other.to_string(),
                sandbox_id: None,
                retryable: false,
                source: Some(Box::new(other)),
            },
        }
    }
}

/// Why no stream into a sandbox could be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("sandbox {0} is not running")]
    NotRunning(SandboxId),
    /// Nothing listens there.
    #[error("port {0} is not open")]
    PortClosed(Port),
    #[error("connect: {0}")]
    Io(#[from] std::io::Error),
}

impl ConnectError {
    /// Whether the next attempt may be luckier: the queue of who listens is full, it is being replaced, or
    /// this process has as many files open as it may.
    fn passes(error: &std::io::Error) -> bool {
        use std::io::ErrorKind as Kind;
        const TOO_MANY_FILES: [i32; 2] = [23, 24];
        matches!(
            error.kind(),
            Kind::WouldBlock
                | Kind::Interrupted
                | Kind::ConnectionRefused
                | Kind::ConnectionReset
                | Kind::ConnectionAborted
                | Kind::TimedOut
        ) || error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
    }
}

impl From<ConnectError> for soulbox_model::Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NotRunning(id) => Self::not_found("sandbox", id),
            ConnectError::PortClosed(port) => Self::not_found("port", port),
            // Nothing was asked yet, so the policy decides how soon it is tried again.
            ConnectError::Io(source) if ConnectError::passes(&source) => Self::Unavailable {
                reason: "the sandbox takes no connection now".into(),
                retry_after: None,
                source: Some(source.into()),
            },
            ConnectError::Io(source) => Self::internal("connect to a sandbox", source),
        }
    }
}
