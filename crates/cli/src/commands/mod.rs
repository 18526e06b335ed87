//! One module for each command.

mod bench;
mod completions;
mod config;
mod doctor;
mod env;
mod exec;
mod init;
mod interrupt;
mod key;
mod project;
mod run;
mod runtime;
pub(crate) mod sandbox;
mod secret;
mod serve;
mod subject;
mod team;
mod template;

use crate::{args::Command, failure::Result, settings::Settings};

/// Runs one command to its end.
///
/// # Errors
/// What the user is told, with the exit code.
pub async fn run(command: Command, settings: &Settings) -> Result<()> {
    match command {
        Command::Doctor(args) => doctor::run(settings, args).await,
        Command::Serve(args) => serve::run(settings, args).await,
        Command::Env(args) => env::run(settings, args),
        Command::Sandbox(command) => sandbox::run(settings, command).await,
        Command::Run(args) => run::run(settings, args).await,
        Command::Up(args) => run::up(settings, args).await,
        Command::Ps(args) => run::ps(settings, &args).await,
        Command::Logs(args) => run::logs(settings, &args).await,
        Command::Down(args) => run::down(settings, &args).await,
        Command::Test(args) => run::test(settings, args).await,
        Command::Exec(args) => exec::run(settings, *args).await,
        Command::Init(args) => init::run(settings, args),
        Command::Config(command) => config::run(settings, command),
        Command::Runtime(command) => runtime::run(settings, command).await,
        Command::Team(command) => team::run(settings, command).await,
        Command::Secret(command) => secret::run(settings, command).await,
        Command::Key(command) => key::run(settings, command).await,
        Command::Template(command) => template::run(settings, command).await,
        Command::Bench(command) => bench::run(settings, command).await,
        Command::Completions { shell } => completions::run(shell),
    }
}
