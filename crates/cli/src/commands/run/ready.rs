//! Whether a project is ready.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    client::{
        Remote,
        process::{Config, Data, Event},
        remote::Launch,
    },
    failure::{Failure, Result},
    output::plain,
};

/// Between two tries: soon at first, as many programs are quick.
const FIRST: Duration = Duration::from_millis(20);
const LAST: Duration = Duration::from_millis(500);
/// One try.
const TRY: Duration = Duration::from_secs(10);
const MAX_SAID: usize = 2048;

/// Tries `command` until it succeeds.
///
/// # Errors
/// What it said last, when `limit` is over; or the loss of the sandbox.
pub(super) async fn wait(
    remote: &Remote,
    command: &[String],
    cwd: &str,
    limit: Duration,
) -> Result<()> {
    let began = Instant::now();
    let left = || limit.saturating_sub(began.elapsed());
    let mut pause = FIRST;
    // One that is cut off says less than the one before it.
    let mut last = (None, String::new());
    loop {
        let (code, said) = once(remote, command, cwd, left().clamp(FIRST, TRY)).await?;
        if code == Some(0) {
            return Ok(());
        }
        if code.is_some() || last.0.is_none() {
            last = (code, said);
        }
        sleep(pause.min(left())).await;
        if left().is_zero() {
            return Err(never(limit, last));
        }
        pause = (pause * 2).min(LAST);
    }
}

fn never(limit: Duration, (code, said): (Option<u8>, String)) -> Failure {
    let how = match code {
        Some(code) => format!("ended with {code}"),
        None => "did not end by itself".into(),
    };
    let said = if said.is_empty() { "nothing".into() } else { said };
    Failure::Environment {
        message: format!(
            "commands.ready did not succeed within {limit:?}; it last {how} and said: {said}"
        ),
        hint: "try it with `soulbox exec` in a project that is up, or give it more with --wait"
            .into(),
    }
}

/// How one try ended, if it did so by itself, and what it said.
async fn once(
    remote: &Remote,
    command: &[String],
    cwd: &str,
    limit: Duration,
) -> Result<(Option<u8>, String)> {
    let mut words = command.iter().cloned();
    let process = Config {
        cmd: words.next().unwrap_or_default(),
        args: words.collect(),
        cwd: Some(cwd.to_owned()),
        ..Config::default()
    };
    let launch = Launch { process, timeout: Some(limit), ..Launch::default() };
    let mut said = Vec::new();
    let code = match to_end(remote, &launch, &mut said).await {
        Err(Failure::CommandTimeout(_)) => None,
        ended => Some(ended?),
    };
    Ok((code, plain(String::from_utf8_lossy(&said).trim())))
}

async fn to_end(remote: &Remote, launch: &Launch, said: &mut Vec<u8>) -> Result<u8> {
    let mut running = remote.start(launch).await?;
    let mut code = 1;
    while let Some(event) = running.next().await? {
        match event {
            Event::Data(Data::Stdout(bytes) | Data::Stderr(bytes) | Data::Pty(bytes)) => {
                let room = MAX_SAID.saturating_sub(said.len());
                said.extend_from_slice(&bytes.0[..bytes.0.len().min(room)]);
            }
            Event::End(end) => code = end.code(),
            Event::Start { .. } | Event::Keepalive {} => {}
        }
    }
    Ok(code)
}
