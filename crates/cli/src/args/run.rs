//! `soulbox run`, `up`, `ps`, `logs`, `down` and `test`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{duration, values::install_time};

/// Which project.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Directory of the project, with its soulbox.toml.
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
}

/// What stands in for what the file says.
#[derive(Debug, Clone, Args)]
pub struct Overrides {
    /// Key of soulbox.toml and its value for this time; may be repeated.
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    pub set: Vec<String>,
    /// How long it may take to be ready.
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "DURATION")]
    pub wait: Duration,
    /// How long each template that what the project depends on needs may take to be made, all its steps
    /// together, from 1s to 20m; a wait for others that the server prepares does not count.
    #[arg(long, value_parser = install_time, default_value = "10m", value_name = "DURATION")]
    pub install_within: Duration,
    /// Install no dependencies.
    #[arg(long)]
    pub no_install: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox run
  soulbox run --project examples/flask --set resources.memory=1GB
  soulbox run -- --verbose                arguments after those of commands.start

What lock files and manifests ask for is installed first, and kept for every later run: docs/soulbox-toml.md. Then \
the directory is copied into a new sandbox at /home/user/app, without .git; commands.start runs there, and \
commands.ready is tried until it succeeds. Then the URLs of network.ports are printed, on standard error, so that \
standard output is the program's own. With --json one object says sandbox_id, urls and ready_ms.

Exit codes: the program's own; 130 after Ctrl-C; 1 when it never gets ready; others as for every command.")]
pub struct Run {
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Added to the arguments of commands.start.
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox up -d && soulbox logs -f
  soulbox up -d --json | jq -r '.urls[0]'

It lives as long as resources.timeout says, or until `soulbox down`. What is up already is left alone, and its URLs \
are printed. Without -d it is the same as `soulbox run`.")]
pub struct Up {
    /// Return when it is ready.
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub run: Run,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox ps
  soulbox ps --all --json

With --json each has project, directory, sandbox_id, started_at, end_at, and exit_code where its start command has ended.")]
pub struct Ps {
    #[command(flatten)]
    pub which: Which,
    /// Of every project, not of this one alone.
    #[arg(short, long)]
    pub all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox logs
  soulbox logs -f

What `soulbox up -d` started says. With --json each line is an object with `line`: in an array, or one by one with -f.")]
pub struct Logs {
    #[command(flatten)]
    pub which: Which,
    /// Go on until Ctrl-C, or until its start command ends.
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  soulbox down")]
pub struct Down {
    #[command(flatten)]
    pub which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox test
  soulbox test --keep junit.xml

Runs commands.test in a new sandbox with a copy of the directory. With --json, what it says goes to standard error, and one \
object says project, sandbox_id, exit_code and kept.

Exit codes: the test's own; others as for every command.")]
pub struct Test {
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub overrides: Overrides,
    /// File that the test writes, to be copied out right into the directory; may be repeated, with other names.
    #[arg(long, value_name = "FILE")]
    pub keep: Vec<String>,
}
