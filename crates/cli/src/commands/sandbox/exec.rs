//! Commands and terminals in a sandbox.

use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use super::{
    ended,
    session::{self, Input},
    terminal,
};
use crate::{
    args::sandbox::{Exec, Shell},
    client::{
        Remote, Server,
        process::{Config, Data, End},
        remote::Launch,
    },
    failure::{Failure, Result},
    output::{Output, gone},
};

/// What `--json` keeps of each stream.
const MAX_KEPT: usize = 16 << 20;

pub(super) async fn exec(server: &Server, output: &Output, args: Exec) -> Result<()> {
    let remote = server.remote(&args.id).await?;
    let mut words = args.command.into_iter();
    let process = Config {
        cmd: words.next().unwrap_or_default(),
        args: words.collect(),
        envs: args.env.into_iter().collect(),
        cwd: args.cwd,
    };
    let launch = Launch { process, user: args.user, timeout: args.timeout, ..Launch::default() };
    ended::told(server, &args.id, launched(&remote, output, launch, args.tty).await).await
}

/// Runs a command to its end, with a terminal or with our standard streams.
pub(in crate::commands) async fn launched(
    remote: &Remote,
    output: &Output,
    launch: Launch,
    tty: bool,
) -> Result<()> {
    match tty {
        true if output.json => Err(Failure::usage("--tty and --json exclude each other")),
        true => interactive(remote, launch).await,
        false => piped(remote, output, launch).await,
    }
}

/// With our standard streams; with `--json` its result as one object instead of what it says.
async fn piped(remote: &Remote, output: &Output, launch: Launch) -> Result<()> {
    let input = Input::Chunks(session::standard_input());
    if output.json {
        return captured(remote, output, launch, input).await;
    }
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let end = session::run(
        remote,
        launch,
        input,
        |_| None,
        async |data| {
            let written = match data {
                Data::Stdout(bytes) | Data::Pty(bytes) => {
                    out.write_all(&bytes.0).await.and(out.flush().await)
                }
                Data::Stderr(bytes) => err.write_all(&bytes.0).await.and(err.flush().await),
            };
            written.map_err(gone)
        },
    )
    .await?;
    exit(&end)
}

pub(super) async fn shell(server: &Server, output: &Output, args: Shell) -> Result<()> {
    if output.json {
        return Err(Failure::usage("a terminal has no JSON form"));
    }
    let remote = server.remote(&args.id).await?;
    let process = Config {
        cmd: "/bin/sh".into(),
        args: vec![
            "-c".into(),
            "if command -v bash >/dev/null 2>&1; then exec bash -il; else exec sh -i; fi".into(),
        ],
        envs: args.env.into_iter().collect(),
        cwd: args.cwd,
    };
    let launch = Launch { process, user: args.user, ..Launch::default() };
    ended::told(server, &args.id, interactive(&remote, launch).await).await
}

/// With a terminal in the sandbox, joined to ours if we have one.
async fn interactive(remote: &Remote, mut launch: Launch) -> Result<()> {
    launch.process.envs.entry("TERM".into()).or_insert_with(terminal::kind);
    launch.terminal = Some(terminal::size());
    let raw = terminal::present().then(terminal::Raw::enter).transpose()?;
    let input = Input::Chunks(session::standard_input());
    let mut out = tokio::io::stdout();
    let ended = session::run(
        remote,
        launch,
        input,
        |pid| terminal::follow_size(remote, pid),
        async |data| {
            let (Data::Stdout(bytes) | Data::Stderr(bytes) | Data::Pty(bytes)) = data;
            out.write_all(&bytes.0).await.and(out.flush().await).map_err(gone)
        },
    )
    .await;
    drop(raw);
    exit(&ended?)
}

/// The whole result as one JSON object.
async fn captured(remote: &Remote, output: &Output, launch: Launch, input: Input) -> Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        exit_code: u8,
        status: &'a str,
        stdout: std::borrow::Cow<'a, str>,
        stderr: std::borrow::Cow<'a, str>,
        /// Whether a stream was longer than what is kept of it.
        truncated: bool,
    }
    let (mut out, mut err, mut truncated) = (Vec::new(), Vec::new(), false);
    let end = session::run(
        remote,
        launch,
        input,
        |_| None,
        async |data| {
            let (kept, bytes) = match data {
                Data::Stdout(bytes) | Data::Pty(bytes) => (&mut out, bytes.0),
                Data::Stderr(bytes) => (&mut err, bytes.0),
            };
            let room = MAX_KEPT - kept.len();
            truncated |= bytes.len() > room;
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            Ok(())
        },
    )
    .await?;
    output.value(&Report {
        exit_code: end.code(),
        status: &end.status,
        stdout: String::from_utf8_lossy(&out),
        stderr: String::from_utf8_lossy(&err),
        truncated,
    })?;
    exit(&end)
}

fn exit(end: &End) -> Result<()> {
    match end.code() {
        0 => Ok(()),
        code => Err(Failure::Exit(code)),
    }
}
