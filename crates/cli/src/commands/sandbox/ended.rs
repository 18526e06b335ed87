//! Why a sandbox is gone.

use std::time::Duration;

use soulbox_model::SandboxId;

use crate::{
    client::Server,
    failure::{Failure, Result},
    output::plain,
};

/// What the log of an ended sandbox says last begins so.
const LAST: &str = "sandbox ended";
/// A connection breaks a moment before its sandbox is known to have ended.
const MOMENT: Duration = Duration::from_millis(100);
const MOMENTS: usize = 5;

/// What came of work in a sandbox: where that has ended, so, rather than that nobody answers.
pub(in crate::commands) async fn told<T>(
    server: &Server,
    id: &SandboxId,
    done: Result<T>,
) -> Result<T> {
    match done {
        // Its agent is not there any more; or its gateway says so.
        Err(
            failure @ (Failure::Unreachable { .. } | Failure::Answer { status: 404 | 502, .. }),
        ) => Err(instead(server, id).await.unwrap_or(failure)),
        done => done,
    }
}

async fn instead(server: &Server, id: &SandboxId) -> Option<Failure> {
    for _ in 0..MOMENTS {
        match server.get(id).await {
            Err(Failure::Answer { status: 404, .. }) => return Some(end_of(server, id).await),
            Err(_) => return None,
            Ok(_) => tokio::time::sleep(MOMENT).await,
        }
    }
    None
}

async fn end_of(server: &Server, id: &SandboxId) -> Failure {
    let last = match server.logs(id, None, None, Some(LAST)).await {
        Ok(logs) => logs.logs.into_iter().next_back(),
        Err(_) => None,
    };
    let (message, event) = match last {
        Some(mut last) => (plain(&last.message), last.fields.remove("event")),
        None => (LAST.to_owned(), None),
    };
    let hint = match event.as_deref() {
        Some("timeout") => {
            "give it more with --timeout of `soulbox sandbox create`, or resources.timeout of a project: in \
             soulbox.toml, or as `--set resources.timeout=1h`"
                .to_owned()
        }
        _ => format!("`soulbox sandbox logs {id}` says what happened before"),
    };
    Failure::NotFound { message: format!("the {message}"), hint: Some(hint) }
}
