//! `soulbox-agent`: PID 1 of a sandbox, or a plain daemon for development.
//!
//! Without arguments it expects to be started by an engine. With `--listen` it serves this very
//! machine, with the rights of whoever starts it and without any isolation, so that a client in
//! debug mode can be pointed at it.

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use soulbox_agent::{Settings, boot};

const USAGE: &str = "\
Usage: soulbox-agent [--version | --help | --listen ADDRESS [--default-user NAME]]

Without arguments, the engine of a SoulBox server must be the one who starts it.

  --listen ADDRESS       serve this machine, without isolation, for development
  --default-user NAME    whom requests act for that name nobody (default: root)
  --version              print the version
";

/// How many threads may wait for files at a time; more work waits for them.
const BLOCKING_THREADS: usize = 16;
/// Threads stay: where a sandbox may have no more of them, there would be none for the next file.
const FOR_GOOD: Duration = Duration::from_secs(10 * 365 * 86400);

enum Mode {
    Sandbox,
    Alone { address: SocketAddr, default_user: String },
    Print(String),
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "soulbox-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Mode> {
    let (mut address, mut default_user) = (None, None);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--version" => {
                let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
                let envd = soulbox_model::ENVD_VERSION;
                return Ok(Mode::Print(format!("{name} {version} (envd {envd})\n")));
            }
            "--help" | "-h" => return Ok(Mode::Print(USAGE.to_owned())),
            "--listen" => {
                let text = value()?;
                let parsed = text.parse().with_context(|| format!("`{text}` is no IP:PORT"))?;
                address = Some(parsed);
            }
            "--default-user" => default_user = Some(value()?),
            _ => bail!("unknown argument `{arg}`; see --help"),
        }
    }
    match (address, default_user) {
        (Some(address), user) => {
            let default_user = user.unwrap_or_else(|| "root".to_owned());
            Ok(Mode::Alone { address, default_user })
        }
        (None, Some(_)) => bail!("--default-user only goes with --listen"),
        (None, None) => Ok(Mode::Sandbox),
    }
}

fn run(mode: Mode) -> anyhow::Result<()> {
    if let Mode::Print(text) = mode {
        return Ok(io::stdout().write_all(text.as_bytes())?);
    }
    // Before there is a sandbox to become, so that becoming one takes less.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(FOR_GOOD)
        .build()
        .context("start the runtime")?;
    // New files are 0644 and directories 0755, whatever the umask of the engine is.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    match mode {
        Mode::Alone { address, default_user } => {
            let listener = std::net::TcpListener::bind(address)
                .with_context(|| format!("listen on {address}"))?;
            let settings = Settings { default_user, ..Settings::default() };
            runtime.block_on(soulbox_agent::serve_alone(listener, settings))?;
        }
        Mode::Sandbox | Mode::Print(_) => {
            let blank = boot::Blank::prepare()?;
            let server = soulbox_agent::Server::default();
            let sandbox = blank.enter()?;
            runtime.block_on(soulbox_agent::serve(server, sandbox))?;
        }
    }
    Ok(())
}
