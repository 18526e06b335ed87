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
    let mut pause = FIRST;
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let (code, said) = once(remote, command, cwd, left.min(TRY)).await?;
        if code == Some(0) {
            return Ok(());
        }
        if began.elapsed() >= limit {
            let how = match code {
                Some(code) => format!("ended with {code}"),
                None => "did not end by itself".into(),
            };
            let said = if said.is_empty() { "nothing".into() } else { said };
            return Err(Failure::Environment {
                message: format!(
                    "commands.ready did not succeed within {limit:?}; it last {how} and said: {said}"
                ),
                hint: "try it with `soulbox exec` in a project that is up, or give it more with --wait"
                    .into(),
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST);
    }
}

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
    let timeout = Some(limit.max(FIRST));
    let mut running = remote.start(&Launch { process, timeout, ..Launch::default() }).await?;
    let (mut code, mut said) = (Some(1), Vec::new());
    loop {
        match running.next().await {
            Ok(Some(Event::Data(Data::Stdout(bytes) | Data::Stderr(bytes) | Data::Pty(bytes)))) => {
                let room = MAX_SAID.saturating_sub(said.len());
                said.extend_from_slice(&bytes.0[..bytes.0.len().min(room)]);
            }
            Ok(Some(Event::End(end))) => code = Some(end.code()),
            Ok(Some(Event::Start { .. } | Event::Keepalive {})) => {}
            Ok(None) => break,
            Err(Failure::CommandTimeout(_)) => {
                code = None;
                break;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok((code, plain(String::from_utf8_lossy(&said).trim())))
}
