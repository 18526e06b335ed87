//! How long a project takes to be ready, and its start command alone, for `soulbox bench`.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{command, load::Loaded, ready, start::Started};
use crate::{
    args::run::{Overrides, Which},
    client::{Server, process::Signal},
    commands::sandbox::session::Interrupts,
    failure::{Failure, Result},
    output::Output,
};

/// A project that is not ready by then is none to measure with.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(in crate::commands) struct Times {
    /// From the project's file to ready, the sandbox and the copy included.
    pub(in crate::commands) whole: Duration,
    /// From the start command to ready, once more in the same sandbox.
    pub(in crate::commands) alone: Duration,
}

/// The file of a project that serves a page.
pub(in crate::commands) fn page(memory_bytes: u64) -> String {
    format!(
        "[project]\nname = \"bench\"\nversion = \"0.1.0\"\n\
         [template]\nname = \"bench\"\nbase_image = \"base\"\n\
         [commands]\nstart = [\"python3\", \"-m\", \"http.server\", \"8000\"]\n\
         ready = [\"curl\", \"-fsS\", \"http://127.0.0.1:8000/\"]\n\
         [resources]\nmemory = \"{memory_bytes}B\"\n[network]\nports = [8000]\n"
    )
}

/// # Errors
/// If the project does not get ready.
pub(in crate::commands) async fn once(
    server: &Server,
    output: &Output,
    dir: &Path,
) -> Result<Times> {
    let began = Instant::now();
    let loaded = Loaded::open(&Which { project: dir.to_owned() }, &[], None)?;
    let nothing =
        Overrides { set: Vec::new(), wait: LIMIT, install_within: LIMIT, no_install: true };
    let started = Started::make(server, output, &loaded, &nothing, &Interrupts::new()?).await?;
    let measured = async {
        to_ready(&loaded, &started).await?;
        let whole = began.elapsed();
        let began = Instant::now();
        to_ready(&loaded, &started).await?;
        Ok(Times { whole, alone: began.elapsed() })
    };
    let measured = measured.await;
    let _ = server.kill(&started.id).await;
    measured
}

/// Starts the project's command, waits until it is ready, and ends it.
async fn to_ready(loaded: &Loaded, started: &Started) -> Result<()> {
    let commands = &loaded.project.commands;
    let launch = command(started.app, commands.start.iter().cloned());
    let mut running = started.remote.start(&launch).await?;
    let ready = commands.ready.as_deref().unwrap_or_default();
    ready::wait(&started.remote, ready, started.app, LIMIT).await?;
    started.remote.signal(running.pid, Signal::Kill).await?;
    let ended = async {
        while running.next().await?.is_some() {}
        Ok::<_, Failure>(())
    };
    tokio::time::timeout(LIMIT, ended).await.map_err(|_| Failure::CommandTimeout(LIMIT))?
}
