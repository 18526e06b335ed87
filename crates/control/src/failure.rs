//! What an engine's failure means to whoever asked for a sandbox.

use std::io::ErrorKind;

use soulbox_engine as engine;
use soulbox_model::{Error, SandboxId};

/// The error of a creation, with the id filled in if there is one already, and with the cause
/// deciding about a retry.
pub(crate) fn of_creation(id: Option<&SandboxId>, error: engine::Error) -> Error {
    let passing = matches!(&error, engine::Error::Stage { source, .. } if passes(source));
    match Error::from(error) {
        Error::SandboxCreation { reason, sandbox_id, retryable, source } => {
            Error::SandboxCreation {
                reason,
                sandbox_id: sandbox_id.or_else(|| id.cloned()),
                retryable: retryable || passing,
                source,
            }
        }
        other => other,
    }
}

/// Whether the kernel refused for want of something that comes back by itself.
fn passes(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::ResourceBusy
            | ErrorKind::OutOfMemory
            | ErrorKind::TimedOut
            | ErrorKind::StorageFull
            | ErrorKind::ReadOnlyFilesystem
    ) || code_of(error).is_some_and(|code| [ENFILE, EMFILE].contains(&code))
}

/// The kernel's number, however often the error was told where it happened.
fn code_of(error: &std::io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| {
        let mut cause = error.get_ref()?.source();
        while let Some(error) = cause {
            let code = error.downcast_ref::<std::io::Error>().and_then(code_of);
            if code.is_some() {
                return code;
            }
            cause = error.source();
        }
        None
    })
}

/// Too many open files, in the system or in this process.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(code: i32) -> engine::Error {
        engine::Error::stage("spawn")(std::io::Error::from_raw_os_error(code))
    }

    #[test]
    fn a_passing_shortage_may_be_retried_and_names_the_sandbox() {
        let id = SandboxId::random();
        for (errno, retryable) in [
            (11, true),
            (12, true),
            (16, true),
            (24, true),
            (28, true),
            (30, true),
            (1, false),
            (22, false),
        ] {
            let error = of_creation(Some(&id), stage(errno));
            assert_eq!(error.retryable(), retryable, "errno {errno}");
            assert_eq!(error.http_status(), if retryable { 503 } else { 500 });
            let Error::SandboxCreation { sandbox_id, source, .. } = error else { panic!() };
            assert_eq!(sandbox_id, Some(id.clone()));
            assert!(source.is_some());
        }
    }

    #[test]
    fn a_shortage_is_known_below_what_says_where_it_was() {
        #[derive(Debug, thiserror::Error)]
        #[error("a file")]
        struct At(#[source] std::io::Error);
        let source = std::io::Error::from_raw_os_error(EMFILE);
        let told = std::io::Error::new(source.kind(), At(source));
        assert!(of_creation(None, engine::Error::stage("open")(told)).retryable());
        let told = std::io::Error::other(At(std::io::Error::from_raw_os_error(1)));
        assert!(!of_creation(None, engine::Error::stage("open")(told)).retryable());
    }

    #[test]
    fn limits_and_timeouts_keep_their_kind() {
        let id = SandboxId::random();
        let timeout = engine::Error::StartupTimeout { id: id.clone(), timeout_ms: 10 };
        assert_eq!(of_creation(Some(&id), timeout).http_status(), 504);
        let full = engine::Error::Exhausted { resource: "uid ranges", current: 9, limit: 9 };
        assert_eq!(of_creation(None, full).http_status(), 429);
    }
}
