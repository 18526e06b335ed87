//! The command line: what may be typed, and what it is turned into.

pub mod artifact;
pub mod bench;
pub mod exec;
pub mod project;
pub mod run;
pub mod sandbox;
pub mod secret;
pub mod serve;
pub mod team;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
pub use values::{
    byte_count, cores, duration, key_value, memory, name_server, request_rate, runtime_id, size,
};

/// Where the server keeps everything unless told otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/soulbox";

const TOP_EXAMPLES: &str = "\
Examples:
  soulbox doctor                          what this machine can do
  soulbox serve                           start the server (as root)
  eval \"$(soulbox env)\"                   point the E2B SDKs at it
  id=$(soulbox sandbox create)            make a sandbox
  soulbox sandbox exec $id -- uname -a    run a command in it
  soulbox init                            begin a project: write its soulbox.toml

Exit codes:
  0    success
  1    the operation failed
  2    a flag, a value or the configuration is wrong
  3    the sandbox, template, key or file does not exist
  4    not authenticated, or not allowed
  5    no server answers
  6    `doctor --attack`: at least one attack was not held
  124  the command ran into its --timeout
  130  interrupted by Ctrl-C
  `sandbox exec` and `sandbox shell` return the exit code of the command itself.";

/// Self-hosted sandboxes that speak E2B's protocol.
#[derive(Debug, Parser)]
#[command(name = "soulbox", version, propagate_version = true, after_help = TOP_EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that may stand before or after the command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory of the database, templates, sandboxes and keys.
    #[arg(long, global = true, env = "SOULBOX_DATA_DIR", value_name = "DIR")]
    #[arg(default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,

    /// Address that the server listens on, and that clients look for it at.
    #[arg(long, global = true, env = "SOULBOX_LISTEN", value_name = "IP:PORT")]
    #[arg(default_value = "127.0.0.1:8990")]
    pub listen: SocketAddr,

    /// How log lines on stderr look. `SOULBOX_LOG` sets the level, as in `SOULBOX_LOG=debug`.
    #[arg(long, global = true, env = "SOULBOX_LOG_FORMAT", value_name = "FORMAT")]
    #[arg(value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Print results, and errors on stderr, as JSON.
    #[arg(long, global = true)]
    pub json: bool,

    /// URL of the server instead of the one that runs on the data directory.
    #[arg(long, global = true, value_name = "URL")]
    pub api_url: Option<String>,

    /// API key instead of E2B_API_KEY or the one in the data directory.
    #[arg(long, global = true, value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what this kernel and machine can do, what is missing, and what to do about it.
    Doctor(Doctor),
    /// Run the server.
    Serve(serve::Serve),
    /// Print the variables that point E2B SDKs and tools at the running server.
    Env(Env),
    /// Create, use and end sandboxes.
    #[command(subcommand, visible_alias = "sbx")]
    Sandbox(sandbox::Sandbox),
    /// Start a project, wait until it is ready, and follow it until Ctrl-C ends it.
    Run(run::Run),
    /// Start a project and leave it running.
    Up(run::Up),
    /// List what runs of projects.
    Ps(run::Ps),
    /// Show what a project that is up has said.
    Logs(run::Logs),
    /// End a project that is up.
    Down(run::Down),
    /// Run a project's tests in a sandbox of their own.
    Test(run::Test),
    /// Run code in a runtime, or a command in a project that is up.
    Exec(Box<exec::Exec>),
    /// Begin a project: find its runtime and write a soulbox.toml.
    Init(project::Init),
    /// Check, show and change a project file.
    #[command(subcommand)]
    Config(project::Config),
    /// What runtimes there are, and which one a directory is for.
    #[command(subcommand)]
    Runtime(project::Runtime),
    /// Create, list and revoke API keys in the data directory; needs no running server.
    #[command(subcommand)]
    Key(Key),
    /// Make and list teams in the data directory; needs no running server.
    #[command(subcommand)]
    Team(team::Team),
    /// Store what sandboxes may use and not see.
    #[command(subcommand)]
    Secret(secret::Secret),
    /// List and prepare templates.
    #[command(subcommand)]
    Template(Template),
    /// Measure this machine against its physical floor.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Examples:\n  soulbox completions bash > /etc/bash_completion.d/soulbox"
    )]
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox doctor
  soulbox doctor --attack
  soulbox doctor --attack --only res-fork-bomb --only kernel-clone3
  soulbox doctor --attack --json | jq -r 'select(.result == \"broken\") | .why'

--attack runs hostile programs in real sandboxes and hostile requests against the server that runs on \
the data directory, or a temporary one, and looks at this machine meanwhile. It needs root and takes a \
few minutes, during which commands of other sandboxes may wait. With --json it prints one object per \
attack: id, group, title, result (held, broken or skipped), why, defence, duration_ms.

Exit codes: 0 all applicable attacks were held; 6 at least one was not; others as for every command.")]
pub struct Doctor {
    /// Carry out the attack battery and print a score.
    #[arg(long)]
    pub attack: bool,
    /// Only the attack with this id; may be repeated.
    #[arg(long, value_name = "ID", requires = "attack")]
    pub only: Vec<String>,
    /// Template of the attacked sandboxes; `base` where it is ready, `host` otherwise.
    #[arg(short, long, requires = "attack")]
    pub template: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eval \"$(soulbox env)\"
  soulbox env --shell fish | source
  soulbox env --json | jq -r .E2B_API_URL")]
pub struct Env {
    /// Whose syntax to print.
    #[arg(long, value_enum, default_value_t = Shell::Posix)]
    pub shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// sh, bash, zsh, dash.
    Posix,
    Fish,
    Powershell,
}

#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make an API key and print it, this once.
    #[command(after_help = "Examples:\n  soulbox key create ci")]
    Create {
        /// What the key is for.
        #[arg(default_value = "cli")]
        name: String,
        /// Short name of the team that it is for, instead of the first one.
        #[arg(long)]
        team: Option<String>,
    },
    /// List API keys; never their secret part.
    #[command(visible_alias = "ls")]
    List {
        /// Short name of the team, instead of the first one.
        #[arg(long)]
        team: Option<String>,
    },
    /// Make a key useless, within a second also for a running server.
    #[command(visible_alias = "rm", after_help = "Examples:\n  soulbox key revoke 0198c0de-…")]
    Revoke {
        /// Id of the key, from `soulbox key list`.
        id: uuid::Uuid,
        /// Short name of its team, instead of the first one.
        #[arg(long)]
        team: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Template {
    /// List templates and whether they are ready.
    #[command(visible_alias = "ls")]
    List,
    /// Prepare a template: `base` (a Debian userland), `host` (this machine's /usr), or a runtime's.
    #[command(
        after_help = "Examples:\n  soulbox template build base\n  soulbox template build deno"
    )]
    Build { name: String },
    /// Stop the build of a derived template, for all who wait for it.
    #[command(
        after_help = "Examples:\n  soulbox template list\n  soulbox template stop derived-0123456789abcdef01234567"
    )]
    Stop { name: String },
    /// Remove derived templates that no sandbox stands on and nobody asked for lately.
    #[command(after_help = "\
Examples:
  soulbox template prune
  soulbox template prune --unused-for 0s --json

Parents of templates that stay are kept, too. With --json it prints an array of name, templateID and sizeBytes.")]
    Prune {
        /// Only those that nobody asked for in this time.
        #[arg(long, value_parser = duration, default_value = "7d", value_name = "DURATION")]
        unused_for: Duration,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_on_either_side_of_the_command() {
        for line in [
            ["soulbox", "--json", "--data-dir", "/x", "doctor"],
            ["soulbox", "doctor", "--json", "--data-dir", "/x"],
        ] {
            let cli = Cli::try_parse_from(line).expect("parses");
            assert!(cli.global.json);
            assert_eq!(cli.global.data_dir, PathBuf::from("/x"));
        }
    }

    #[test]
    fn help_is_as_wide_as_the_terminal() {
        fn look(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for paragraph in help.split("\n\n") {
                let listed = paragraph.lines().skip(1).any(|line| line.starts_with(' '));
                assert!(
                    listed || paragraph.lines().count() < 2,
                    "{}: {paragraph}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }

    #[test]
    fn half_a_tls_pair_is_refused() {
        assert!(Cli::try_parse_from(["soulbox", "serve", "--tls-cert", "c.pem"]).is_err());
        let both = ["soulbox", "serve", "--tls-local", "--tls-cert", "c", "--tls-key", "k"];
        assert!(Cli::try_parse_from(both).is_err());
    }
}
