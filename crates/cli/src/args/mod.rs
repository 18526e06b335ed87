//! The command line: what may be typed, and what it is turned into.

pub mod sandbox;
pub mod secret;
pub mod team;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
pub use values::{duration, key_value};

/// Where the server keeps everything unless told otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/soulbox";

const TOP_EXAMPLES: &str = "\
Examples:
  soulbox doctor                          what this machine can do
  soulbox serve                           start the server (as root)
  eval \"$(soulbox env)\"                   point the E2B SDKs at it
  id=$(soulbox sandbox create)            make a sandbox
  soulbox sandbox exec $id -- uname -a    run a command in it

Exit codes:
  0    success
  1    the operation failed
  2    a flag, a value or the configuration is wrong
  3    the sandbox, template, key or file does not exist
  4    not authenticated, or not allowed
  5    no server answers
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
    Doctor,
    /// Run the server.
    Serve(Serve),
    /// Print the variables that point E2B SDKs and tools at the running server.
    Env(Env),
    /// Create, use and end sandboxes.
    #[command(subcommand, visible_alias = "sbx")]
    Sandbox(sandbox::Sandbox),
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
    Bench(Bench),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Examples:\n  soulbox completions bash > /etc/bash_completion.d/soulbox"
    )]
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox serve
  soulbox serve --listen 0.0.0.0:443 --domain sandboxes.example.com \\
      --tls-cert fullchain.pem --tls-key privkey.pem
  soulbox serve --tls-local

The first start writes an API key to <data-dir>/api-key. SIGINT and SIGTERM end the server; its
sandboxes live on and the next start takes them over, unless --kill-sandboxes is given.")]
pub struct Serve {
    /// Certificate chain of the listener, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "tls_local")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve TLS with a certificate of a local authority, made on the first start.
    #[arg(long)]
    pub tls_local: bool,
    /// Domain under which sandboxes are reached, as `<port>-<sandbox>.<domain>`.
    #[arg(long, value_name = "NAME", env = "SOULBOX_DOMAIN")]
    pub domain: Option<String>,
    /// End every sandbox when the server ends.
    #[arg(long)]
    pub kill_sandboxes: bool,
    /// How many sandboxes may exist at a time.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_sandboxes: u32,
    /// How many blank sandboxes to keep ready, so that a create takes half the time; 0.4 MiB each.
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub pool: u32,
    /// What isolates sandboxes.
    #[arg(long, value_enum, default_value_t = EngineKind::Native)]
    pub engine: EngineKind,
    /// Do not prepare the `base` template; `soulbox template build base` does it later.
    #[arg(long)]
    pub no_base: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineKind {
    /// Namespaces, cgroups and seccomp of this kernel.
    Native,
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
    /// Prepare a built-in template: `base` (a Debian userland) or `host` (this machine's /usr).
    #[command(after_help = "Examples:\n  soulbox template build base")]
    Build { name: String },
}

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// From the request to create a sandbox to the exit code of its first command.
    Create(BenchCreate),
    /// Round trip of a command in a live sandbox.
    Exec(BenchExec),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench create
  soulbox bench create -n 500 --template base --json

Without a running server a temporary one is started. Every measured sample is paired with one of the
floor: a process with the same namespaces, cgroups and root, made with nothing else around it.")]
pub struct BenchCreate {
    /// Sandboxes to make, one after the other.
    #[arg(short, long, default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub number: u32,
    /// Template; `base` where it is ready, `host` otherwise.
    #[arg(short, long)]
    pub template: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench exec
  soulbox bench exec -n 1000 --json

The floor is a bare fork, exec and wait of the same command on this machine.")]
pub struct BenchExec {
    /// Commands to run, one after the other.
    #[arg(short, long, default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub number: u32,
    /// Template; `base` where it is ready, `host` otherwise.
    #[arg(short, long)]
    pub template: Option<String>,
}

/// How long a command may run when no `--timeout` says so: without end.
pub const NO_TIMEOUT: Duration = Duration::ZERO;

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
    fn half_a_tls_pair_is_refused() {
        assert!(Cli::try_parse_from(["soulbox", "serve", "--tls-cert", "c.pem"]).is_err());
        let both = ["soulbox", "serve", "--tls-local", "--tls-cert", "c", "--tls-key", "k"];
        assert!(Cli::try_parse_from(both).is_err());
    }
}
