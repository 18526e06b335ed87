//! The `soulbox` command: the server and its clients in one binary.
//!
//! This crate parses the command line, prints, and puts the other crates together; it decides
//! nothing about sandboxes. [`args`] is what may be typed, [`commands`] has one module for each
//! command, [`client`] is the HTTP client they share, [`server`] wires `soulbox serve`. Start with
//! [`commands::run`].

pub mod args;
pub mod client;
pub mod commands;
pub mod data_dir;
pub mod failure;
#[doc(hidden)]
pub mod fuzzing;
pub mod logging;
pub mod output;
pub mod progress;
pub mod server;
pub mod settings;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use failure::Failure;
use settings::Settings;

/// Runs what the command line says and returns its exit code.
pub fn main() -> ExitCode {
    let matches = match args::Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refused(&error),
    };
    let cli = match args::Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let settings = Settings::new(cli.global, &matches);
    match start(cli.command, &settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Exit(_)) {
                settings.output.failure(&failure);
            }
            ExitCode::from(&failure)
        }
    }
}

fn start(command: args::Command, settings: &Settings) -> failure::Result<()> {
    let serving = matches!(command, args::Command::Serve(_));
    let filter = if serving { "info" } else { "warn" };
    logging::install(settings.log_format, filter).map_err(Failure::usage)?;
    if serving {
        // Capabilities belong to threads: before there are more of them.
        soulbox_engine_native::confine_server().map_err(Failure::io("dropping capabilities"))?;
        if let Err(error) = soulbox_sys::sched::answer_quickly(true) {
            tracing::debug!(%error, "the scheduler treats the server like any other process");
        }
    }
    // A client waits for one thing at a time; only the server has work for more threads.
    let mut builder = if serving {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build().map_err(Failure::io("starting the runtime"))?;
    let result = runtime.block_on(commands::run(command, settings));
    // A thread that waits for standard input would keep the process alive.
    runtime.shutdown_background();
    result
}

/// Help and versions go to stdout, mistakes to stderr.
fn refused(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let message = text.split("\n\nUsage:").next().unwrap_or(text).trim().to_owned();
        let hint = Some("`soulbox --help` shows what may be typed".to_owned());
        output::Output::new(true).failure(&Failure::Usage { message, hint });
    } else {
        // Nothing is left to do if nobody listens.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
