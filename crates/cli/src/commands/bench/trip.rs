//! The command that is measured, and what surrounds it.

use std::time::Duration;

use soulbox_model::{SandboxId, id::InvalidId};
use soulbox_wire::rest::NewSandboxV2;

use crate::{
    client::{
        Remote,
        process::{Config, Event},
        remote::Launch,
    },
    commands::subject::Subject,
    failure::{Failure, Result},
};

const SETTLE: Duration = Duration::from_millis(5);
/// Sandboxes of a run end by themselves soon after it, whatever happens to it.
const LIFE_SECONDS: i32 = 600;

/// What a measured sandbox is asked for with.
pub(super) fn request(template: &str) -> NewSandboxV2 {
    NewSandboxV2 {
        template_id: template.to_owned(),
        timeout: Some(LIFE_SECONDS),
        ..NewSandboxV2::default()
    }
}

/// Makes a sandbox to measure with.
pub(super) async fn make(subject: &Subject) -> Result<(SandboxId, Remote)> {
    make_of(subject, &request(&subject.template)).await
}

async fn make_of(subject: &Subject, new: &NewSandboxV2) -> Result<(SandboxId, Remote)> {
    let made = subject.server.create(new, None, false).await?;
    let id: SandboxId = made.sandbox_id.parse().map_err(|error: InvalidId| {
        Failure::Protocol(format!("the server named a sandbox `{}`: {error}", made.sandbox_id))
    })?;
    let remote = subject.server.remote_with(&id, made.envd_access_token);
    Ok((id, remote))
}

/// Makes a sandbox for as long as `work` takes.
pub(super) async fn in_one<T>(
    subject: &Subject,
    work: impl AsyncFnOnce(&Remote) -> Result<T>,
) -> Result<T> {
    in_one_of(subject, request(&subject.template), work).await
}

/// The same, of a sandbox that differs from the usual.
pub(super) async fn in_one_of<T>(
    subject: &Subject,
    new: NewSandboxV2,
    work: impl AsyncFnOnce(&Remote) -> Result<T>,
) -> Result<T> {
    let (id, remote) = make_of(subject, &new).await?;
    let done = work(&remote).await;
    subject.server.kill(&id).await?;
    done
}

/// Lets what the sample before left be cleaned up outside of the next one's time.
pub(super) async fn settle() {
    tokio::time::sleep(SETTLE).await;
}

/// The smallest command: what it costs is the platform's.
pub(super) fn nothing() -> Launch {
    let process = Config { cmd: super::floor::COMMAND.into(), ..Config::default() };
    Launch { process, ..Launch::default() }
}

/// Runs a command to its exit code.
pub(super) async fn run(remote: &Remote, launch: &Launch) -> Result<()> {
    let mut running = remote.start(launch).await?;
    let mut code = None;
    while let Some(event) = running.next().await? {
        if let Event::End(end) = event {
            code = Some(end.code());
        }
    }
    match code {
        Some(0) => Ok(()),
        code => Err(Failure::Protocol(format!("the measured command ended with {code:?}"))),
    }
}
