//! Why a command failed: a stable code, one sentence, what to do next, and an exit code.

use std::{io, process::ExitCode, time::Duration};

use serde::Serialize;
use soulbox_model::Error;
use soulbox_spec::{Diagnostics, LoadError};
use soulbox_wire::rest::ErrorDetail;

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

    /// What the server said: its E2B error body, a Connect error, or a bare status.
    pub fn answer(status: u16, body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Body {
            message: String,
            #[serde(default)]
            soulbox: Option<ErrorDetail>,
            /// Connect errors name their code; REST errors repeat the status.
            #[serde(default)]
            code: serde_json::Value,
        }
        if let Ok(Body { message, soulbox, code }) = serde_json::from_slice(body) {
            let connect = code.as_str().and_then(connect_code);
            let retry = match &soulbox {
                Some(detail) => Retry {
                    worthwhile: detail.retryable,
                    after: detail.retry_after_ms.map(Duration::from_millis),
                },
                None => Retry { worthwhile: status == 503, after: None },
            };
            let code = soulbox
                .map(|detail| detail.code)
                .unwrap_or_else(|| connect.unwrap_or_else(|| status_code(status)).to_owned());
            return Self::Answer { status, code, message, retry };
        }
        let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
        let message = match text.trim() {
            "" => format!("the server answered HTTP {status} without a text"),
            text => format!("the server answered HTTP {status}: {text}"),
        };
        let retry = Retry { worthwhile: status == 503, after: None };
        Self::Answer { status, code: status_code(status).to_owned(), message, retry }
    }

    /// A Connect error from the end of a stream.
    pub fn connect(code: &str, message: String) -> Self {
        let name = connect_code(code).unwrap_or("SB-INTERNAL");
        Self::Answer { status: 200, code: name.to_owned(), message, retry: Retry::default() }
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

    /// The user's next step.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model { hint: Some(hint), .. } => Some(hint.clone()),
            Self::Unreachable { hint, .. }
            | Self::Environment { hint, .. }
            | Self::Install { hint, .. } => Some(hint.clone()),
            Self::NoServer { .. } => Some(
                "start one with `soulbox serve`, or name one with --api-url or E2B_API_URL".into(),
            ),
            Self::Usage { hint, .. } | Self::NotFound { hint, .. } => hint.clone(),
            Self::Model { .. } | Self::Answer { .. } if self.retry().after.is_some() => {
                let seconds = self.retry().after.unwrap_or_default().as_secs().max(1);
                Some(format!("try again in {seconds} s"))
            }
            Self::Model { error, .. } => {
                let hint = chain(error)
                    .filter_map(|cause| cause.downcast_ref::<io::Error>())
                    .find_map(hint_for_io);
                hint.or_else(|| hint_for(error.code())).map(str::to_owned)
            }
            Self::Answer { code, .. } => hint_for(code).map(str::to_owned),
            Self::Io { source, .. } => hint_for_io(source).map(str::to_owned),
            _ => None,
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

fn status_code(status: u16) -> &'static str {
    match status {
        400 | 406 | 413 | 415 | 422 => "SB-INVALID",
        401 => "SB-AUTH",
        403 => "SB-PERMISSION",
        404 => "SB-NOT-FOUND",
        409 => "SB-CONFLICT",
        429 | 507 => "SB-LIMIT",
        501 => "SB-NOT-IMPLEMENTED",
        // The gateway's answer for a sandbox that is not there.
        502 => "SB-NOT-FOUND",
        503 => "SB-UNAVAILABLE",
        504 => "SB-NET-TIMEOUT",
        _ => "SB-INTERNAL",
    }
}

fn connect_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "invalid_argument" | "out_of_range" | "failed_precondition" => "SB-INVALID",
        "not_found" => "SB-NOT-FOUND",
        "already_exists" | "aborted" => "SB-CONFLICT",
        "permission_denied" => "SB-PERMISSION",
        "unauthenticated" => "SB-AUTH",
        "resource_exhausted" => "SB-LIMIT",
        "unimplemented" => "SB-NOT-IMPLEMENTED",
        "unavailable" => "SB-UNAVAILABLE",
        "deadline_exceeded" => "SB-NET-TIMEOUT",
        "internal" | "unknown" | "data_loss" | "canceled" => "SB-INTERNAL",
        _ => return None,
    })
}

fn hint_for(code: &str) -> Option<&'static str> {
    Some(match code {
        "SB-AUTH" => {
            "give a valid key with --api-key or E2B_API_KEY; `soulbox key create` makes one"
        }
        "SB-LIMIT" => "end sandboxes with `soulbox sandbox kill`, or raise the server's limits",
        "SB-UNAVAILABLE" => "try again in a moment",
        "SB-INTERNAL" => "the server's log says more",
        _ => return None,
    })
}

fn hint_for_io(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some("run it as root, or as a user who may do this"),
        io::ErrorKind::StorageFull => Some("free some space, or use another --data-dir"),
        io::ErrorKind::QuotaExceeded => Some("the disk quota is used up: free some space"),
        io::ErrorKind::ReadOnlyFilesystem => Some("use a --data-dir that can be written"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_error_body_keeps_code_and_words() {
        let failure = Failure::answer(404, br#"{"code":404,"message":"sandbox `x` not found"}"#);
        assert_eq!(failure.code(), "SB-NOT-FOUND");
        assert_eq!(failure.exit_code(), 3);
        assert_eq!(failure.to_string(), "sandbox `x` not found");

        let named = br#"{"code":503,"message":"soon",
            "soulbox":{"code":"SB-CREATE","retryable":true,"retry_after_ms":2500}}"#;
        let named = Failure::answer(503, named);
        assert_eq!(named.code(), "SB-CREATE");
        let after = Some(Duration::from_millis(2500));
        assert_eq!(named.retry(), Retry { worthwhile: true, after });
        let foreign = br#"{"code":429,"message":"no","error_code":"sandbox_capacity"}"#;
        assert_eq!(Failure::answer(429, foreign).code(), "SB-LIMIT");
        let connect = br#"{"code":"unauthenticated","message":"who?"}"#;
        assert_eq!(Failure::answer(401, connect).exit_code(), 4);
    }

    #[test]
    fn a_body_that_is_no_error_still_says_something() {
        let failure = Failure::answer(500, b"");
        assert_eq!(failure.to_string(), "the server answered HTTP 500 without a text");
        assert_eq!(failure.exit_code(), 1);
        let long = vec![b'x'; 5000];
        assert!(Failure::answer(502, &long).to_string().len() < 300);
    }

    #[test]
    fn the_cause_is_told_once_and_gives_the_hint() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let failure = Failure::from(Error::internal("the database failed", full));
        assert_eq!(failure.to_string(), "internal error: the database failed: no storage space");
        assert!(failure.hint().expect("a hint").contains("free some space"));
    }

    #[test]
    fn every_code_has_its_paragraph_and_every_paragraph_a_code() {
        const PAGE: &str = include_str!("../../../docs/errors.md");
        let chapter = PAGE.split("\n## ").find(|part| part.starts_with("Every code")).unwrap();
        let paragraphs: Vec<(&str, &str)> =
            chapter.split("### `").skip(1).map(|part| part.split_once('`').unwrap()).collect();
        let mut documented: Vec<_> = paragraphs.iter().map(|(code, _)| *code).collect();
        let mut known: Vec<_> = Error::CODES.into_iter().chain(Failure::CODES).collect();
        documented.sort_unstable();
        known.sort_unstable();
        assert_eq!(documented, known);
        for (code, text) in paragraphs {
            // What happened, why, and what to do.
            assert!(text.matches(['.', ';']).count() >= 3 && text.len() > 120, "{code}: {text}");
        }
    }

    #[test]
    fn every_failure_has_a_code_that_is_known() {
        let id = "x".to_owned();
        let io = || io::Error::from(io::ErrorKind::NotFound);
        for failure in [
            Failure::from(Error::not_found("sandbox", "x")),
            Failure::Unreachable { url: id.clone(), reason: id.clone(), hint: id.clone() },
            Failure::NoServer { data_dir: id.clone() },
            Failure::usage("x"),
            Failure::NotFound { message: id.clone(), hint: None },
            Failure::Io { context: id.clone(), source: io() },
            Failure::Protocol(id.clone()),
            Failure::Environment { message: id.clone(), hint: id },
            Failure::from(LoadError::Missing("x".into())),
            Failure::from(LoadError::Unreadable { path: "x".into(), source: io() }),
            Failure::from(LoadError::NotAProjectFile { path: "x".into(), why: "y".into() }),
            Failure::from(LoadError::from(soulbox_spec::Project::parse("", "x").unwrap_err())),
            Failure::CommandTimeout(Duration::ZERO),
            Failure::Interrupted,
            Failure::Exit(1),
        ] {
            let code = failure.code();
            assert!(Error::CODES.contains(&code) || Failure::CODES.contains(&code), "{code}");
        }
        for status in 400..600 {
            let code = status_code(status);
            assert!(Error::CODES.contains(&code), "{status}: {code}");
        }
    }

    #[test]
    fn exit_codes_are_as_documented() {
        let of = |error: Error| Failure::from(error).exit_code();
        assert_eq!(of(Error::not_found("sandbox", "x")), 3);
        assert_eq!(of(Error::invalid("timeout", "no")), 2);
        assert_eq!(of(Error::Conflict("busy".into())), 1);
        assert_eq!(Failure::NoServer { data_dir: "/x".into() }.exit_code(), 5);
        assert_eq!(Failure::Interrupted.exit_code(), 130);
        assert_eq!(Failure::Exit(42).exit_code(), 42);
    }
}
