//! What the user does next.

use std::io;

use super::{Failure, chain};

impl Failure {
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
            Self::Usage { hint: Some(hint), .. } | Self::NotFound { hint: Some(hint), .. } => {
                Some(hint.clone())
            }
            // Each of its problems says what to do.
            Self::Project(_) => None,
            Self::Model { .. } | Self::Answer { .. } if self.retry().after.is_some() => {
                let seconds = self.retry().after.unwrap_or_default().as_secs().max(1);
                Some(format!("try again in {seconds} s"))
            }
            Self::Answer { message, .. } => match missing_secret(message) {
                Some(name) => {
                    Some(format!("store it with `soulbox secret set {name}`, or correct its name"))
                }
                None => hint_for(self.code()).map(str::to_owned),
            },
            Self::Model { error, .. } => {
                let hint = chain(error)
                    .filter_map(|cause| cause.downcast_ref::<io::Error>())
                    .find_map(hint_for_io);
                hint.or_else(|| hint_for(error.code())).map(str::to_owned)
            }
            Self::Io { source, .. } => {
                hint_for_io(source).or_else(|| hint_for(self.code())).map(str::to_owned)
            }
            _ => hint_for(self.code()).map(str::to_owned),
        }
    }
}

/// The secret that a variable names and nobody stored, in the server's words.
fn missing_secret(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("secret `")?;
    let name = rest.strip_suffix("` does not exist")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

/// What helps against most errors of a code, where none knows better.
pub(super) fn hint_for(code: &str) -> Option<&'static str> {
    Some(match code {
        "SB-INVALID" => "correct what is named; `--help` has the flags and their values",
        "SB-CONFIG" => "correct what is named; `soulbox config check` looks at a project file",
        "SB-AUTH" => {
            "give a valid key with --api-key or E2B_API_KEY; `soulbox key create` makes one"
        }
        "SB-PERMISSION" => "use a key of the team whose it is, or ask who may do it",
        "SB-NOT-FOUND" => "see what is there: `soulbox sandbox list`, `soulbox template list`",
        "SB-CONFLICT" => "take another name or key, or wait until the other one is done",
        "SB-LIMIT" => "end sandboxes with `soulbox sandbox kill`, or raise the server's limits",
        "SB-CREATE" => "`soulbox doctor` says what the server's machine lacks",
        "SB-STARTUP-TIMEOUT" => "try again; the server's log says more if it stays so",
        "SB-NET-TIMEOUT" => "try again in 2 s if it may be done twice",
        "SB-CONN-LOST" => "look whether it still runs: `soulbox sandbox list`; then try again",
        "SB-NOT-IMPLEMENTED" => "use another way, or a newer server",
        "SB-UNAVAILABLE" => "try again in a moment",
        "SB-INTERNAL" => "the server's log says more",
        "SB-IO" => "check that it is there, that you may use it, and that there is space",
        "SB-PROTOCOL" => "check the address with `soulbox env`, and the versions on both sides",
        "SB-COMMAND-TIMEOUT" => "give it more time with --timeout; 0 is no limit",
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
