//! Why a command failed: a stable code, one sentence, what to do next, and an exit code.

mod answer;
mod hint;
#[cfg(test)]
mod tests;

use std::{io, process::ExitCode, time::Duration};

use serde::Serialize;
use soulbox_model::Error;
use soulbox_spec::{Diagnostics, LoadError};

pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What every command may end with.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{}", with_cause(error))]
    Model {
        #[source]
        error: Error,
        hint: Option<String>,
    },
    /// The server's own words.
    #[error("{message}")]
    Answer { status: u16, code: String, message: String, retry: Retry },
    #[error("no server answers at {url}: {reason}")]
    Unreachable { url: String, reason: String, hint: String },
    #[error("no server runs on {data_dir}")]
    NoServer { data_dir: String },
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    #[error("{message}")]
    NotFound { message: String, hint: Option<String> },
    #[error("{context}: {source}")]
    Io {
        context: String,
        #[source]
        source: io::Error,
    },
    /// The peer said something that is not the protocol.
    #[error("unexpected answer of the server: {0}")]
    Protocol(String),
    #[error("{message}")]
    Environment { message: String, hint: String },
    /// What a project needs was not installed; the message ends with the installer's last words.
    #[error("{message}")]
    Install { message: String, hint: String },
    /// Everything that is wrong with a project file.
    #[error("{0}")]
    Project(Box<Diagnostics>),
    /// A command in a sandbox ran into its time limit.
    #[error("the command did not end within {0:?} and was killed")]
    CommandTimeout(Duration),
    #[error("interrupted")]
    Interrupted,
    /// Everything was said already; only the exit code is left.
    #[error("exit code {0}")]
    Exit(u8),
}

/// Whether the peer said that the same request may succeed later, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    pub worthwhile: bool,
    pub after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Model { error, hint: None }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Missing(directory) => Self::NotFound {
                message: format!("{} has no {}", directory.display(), soulbox_spec::FILE_NAME),
                hint: Some("make one with `soulbox init`".to_owned()),
            },
            LoadError::Unreadable { path, source } => {
                Self::Io { context: path.display().to_string(), source }
            }
            LoadError::NotAProjectFile { path, why } => Self::from(Error::Configuration {
                field: path.display().to_string(),
                message: why,
                span: None,
            }),
            LoadError::Wrong(diagnostics) => Self::Project(Box::new(diagnostics)),
        }
    }
}

impl Failure {
    /// The codes that only the command line has, beside [`Error::CODES`].
    pub const CODES: [&str; 8] = [
        "SB-UNREACHABLE",
        "SB-IO",
        "SB-PROTOCOL",
        "SB-ENVIRONMENT",
        "SB-INSTALL",
        "SB-COMMAND-TIMEOUT",
        "SB-INTERRUPTED",
        "SB-EXIT",
    ];

    pub fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let context = context.into();
        move |source| Self::Io { context, source }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    /// Stable for ever; `SB-…`.
    pub fn code(&self) -> &str {
        match self {
            Self::Model { error, .. } => error.code(),
            Self::Answer { code, .. } => code,
            Self::Unreachable { .. } | Self::NoServer { .. } => "SB-UNREACHABLE",
            Self::Usage { .. } => "SB-INVALID",
            Self::Project(_) => "SB-CONFIG",
            Self::NotFound { .. } => "SB-NOT-FOUND",
            Self::Io { .. } => "SB-IO",
            Self::Protocol(_) => "SB-PROTOCOL",
            Self::Environment { .. } => "SB-ENVIRONMENT",
            Self::Install { .. } => "SB-INSTALL",
            Self::CommandTimeout(_) => "SB-COMMAND-TIMEOUT",
            Self::Interrupted => "SB-INTERRUPTED",
            Self::Exit(_) => "SB-EXIT",
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exit(code) => *code,
            Self::Interrupted => 130,
            Self::CommandTimeout(_) => 124,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => 3,
            _ => match self.code() {
                "SB-INVALID" | "SB-CONFIG" => 2,
                "SB-NOT-FOUND" => 3,
                "SB-AUTH" | "SB-PERMISSION" => 4,
                "SB-UNREACHABLE" => 5,
                _ => 1,
            },
        }
    }

    /// Whether the same request may succeed later; the caller knows whether it may be repeated.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Model { error, .. } => {
                Retry { worthwhile: error.retryable(), after: error.retry_delay() }
            }
            Self::Answer { retry, .. } => *retry,
            _ => Retry::default(),
        }
    }

    /// `{"error": {…}}`, as `--json` prints it on stderr.
    pub fn to_json(&self) -> serde_json::Value {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<String>,
            exit_code: u8,
            #[serde(skip_serializing_if = "Option::is_none")]
            problems: Option<serde_json::Value>,
        }
        let problems = match self {
            Self::Project(diagnostics) => Some(diagnostics.to_json()),
            _ => None,
        };
        let body = Body {
            problems,
            code: self.code(),
            message: self.to_string(),
            hint: self.hint(),
            exit_code: self.exit_code(),
        };
        serde_json::json!({ "error": body })
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.exit_code())
    }
}

/// An error and what caused it, outermost first.
fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// An error with those of its causes that it does not tell itself.
fn with_cause(error: &Error) -> String {
    let mut text = error.to_string();
    for cause in chain(error).skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
