//! The command line: what may be typed, and what it is turned into.

pub mod artifact;
pub mod exec;
pub mod project;
pub mod run;
pub mod sandbox;
pub mod secret;
pub mod team;
mod values;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use soulbox_model::{DiskRate, network::Cidr, resources::MIB};
pub use values::{byte_count, duration, key_value, name_server, request_rate, runtime_id, size};

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
    Serve(Serve),
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
  soulbox doctor
  soulbox doctor --attack
  soulbox doctor --attack --only res-fork-bomb --only kernel-clone3
  soulbox doctor --attack --json | jq -r 'select(.result == \"broken\") | .why'

--attack runs hostile programs in real sandboxes and hostile requests against the server that runs on
the data directory, or a temporary one, and looks at this machine meanwhile. It needs root and takes a
few minutes, during which commands of other sandboxes may wait. With --json it prints one object per
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
    /// Domain whose names, itself included, sandboxes may take for their own, where its DNS leads here;
    /// repeatable.
    #[arg(long, value_name = "NAME")]
    pub custom_domain: Vec<soulbox_model::network::Domain>,
    /// End every sandbox when the server ends.
    #[arg(long)]
    pub kill_sandboxes: bool,
    /// How many sandboxes may exist at a time.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_sandboxes: u32,
    /// How many sandboxes to make ahead, so that a create takes half the time; about 0.5 MiB each.
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub pool: u32,
    /// How much each sandbox may read from a disk, and as much again write, in a second; 0 for no limit.
    #[arg(long, value_name = "MiB", default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub disk_bandwidth: u32,
    /// How many reads, and as many writes, each sandbox may ask of a disk in a second; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    pub disk_operations: u32,
    /// What isolates sandboxes.
    #[arg(long, value_enum, default_value_t = EngineKind::Native)]
    pub engine: EngineKind,
    /// Do not prepare the `base` template; `soulbox template build base` does it later.
    #[arg(long)]
    pub no_base: bool,
    /// Private or special addresses that sandboxes may reach if their rules allow it; repeatable.
    /// Without it they reach public addresses alone, and never this machine.
    #[arg(long, value_name = "CIDR", help_heading = "Network of sandboxes")]
    pub allow_private_egress: Vec<Cidr>,
    /// Name server that is asked for sandboxes, instead of those of /etc/resolv.conf; repeatable.
    #[arg(long, value_name = "IP[:PORT]", value_parser = name_server)]
    #[arg(help_heading = "Network of sandboxes")]
    pub egress_dns: Vec<SocketAddr>,
    /// Certificates (PEM) that every sandbox trusts beside those of its template, for a network that
    /// opens TLS itself; repeatable.
    #[arg(long, value_name = "FILE", help_heading = "Network of sandboxes")]
    pub sandbox_ca: Vec<PathBuf>,
}

impl Serve {
    pub fn egress(&self) -> soulbox_egress::Config {
        soulbox_egress::Config {
            private: self.allow_private_egress.clone(),
            name_servers: self.egress_dns.clone(),
        }
    }

    pub fn disk_rate(&self) -> DiskRate {
        let limit = |value: u32, unit: u64| (value > 0).then(|| u64::from(value) * unit);
        DiskRate {
            bytes: limit(self.disk_bandwidth, MIB),
            operations: limit(self.disk_operations, 1),
        }
    }
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
    /// Prepare a template: `base` (a Debian userland), `host` (this machine's /usr), or a runtime's.
    #[command(
        after_help = "Examples:\n  soulbox template build base\n  soulbox template build deno"
    )]
    Build { name: String },
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

#[derive(Debug, Subcommand)]
pub enum Bench {
    #[command(flatten)]
    Live(BenchLive),
    /// The way out of a sandbox: connect and first byte, throughput, memory of idle flows.
    Network(BenchNetwork),
    /// Cold starts of python3, node, bun and deno, and a project to ready.
    Runtime(BenchRuntime),
    /// From the start of the server to its first answer.
    Server(BenchServer),
}

/// What is measured on a server that runs.
#[derive(Debug, Subcommand)]
pub enum BenchLive {
    /// From the request to create a sandbox to the exit code of its first command.
    Create(BenchCreate),
    /// Many sandboxes at once, each through its first command.
    Burst(BenchBurst),
    /// Create, command and kill without a pause.
    Sustained(BenchSustained),
    /// Round trip of a command in a live sandbox.
    Exec(BenchExec),
    /// A large file into a sandbox and back.
    Files(BenchFiles),
    /// What many idle sandboxes take, and how the API answers beside them.
    Density(BenchDensity),
}

impl BenchLive {
    pub fn on(&self) -> &On {
        match self {
            Self::Create(BenchCreate { on, .. })
            | Self::Burst(BenchBurst { on, .. })
            | Self::Sustained(BenchSustained { on, .. })
            | Self::Exec(BenchExec { on, .. })
            | Self::Files(BenchFiles { on, .. })
            | Self::Density(BenchDensity { on, .. }) => on,
        }
    }
}

/// What to measure with.
#[derive(Debug, Clone, Args)]
pub struct On {
    /// Template; `base` where it is ready, `host` otherwise.
    #[arg(short, long)]
    pub template: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench burst
  soulbox bench burst -n 50 --rounds 10 --json

The floor is as many processes with the same namespaces, cgroups and root, one thread for each processor.")]
pub struct BenchBurst {
    /// Sandboxes to make at once.
    #[arg(short, long, default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub number: u32,
    /// How often.
    #[arg(short, long, default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    #[command(flatten)]
    pub on: On,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench sustained
  soulbox bench sustained --seconds 120 --json

The floor is the rate at which the kernel alone makes and reaps the same processes.")]
pub struct BenchSustained {
    /// How long to go on.
    #[arg(short, long, default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    #[command(flatten)]
    pub on: On,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench files
  soulbox bench files --size 1024 --json

The floor is the same client against a plain file behind plain HTTP on this machine.")]
pub struct BenchFiles {
    /// Size of the file in MiB.
    #[arg(short, long, default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub size: u32,
    /// How often, there and back.
    #[arg(short, long, default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    #[command(flatten)]
    pub on: On,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench density
  soulbox bench density -n 1000 --json")]
pub struct BenchDensity {
    /// Sandboxes to keep.
    #[arg(short, long, default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub number: u32,
    #[command(flatten)]
    pub on: On,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench network
  soulbox bench network --rounds 10 --json
  soulbox bench network --address 192.168.1.20

Sandboxes connect to a server that this command runs on an address of this machine, which the SoulBox server
must open to them: `soulbox serve --allow-private-egress ADDRESS`. Without a running server a temporary one
is started that way. Loopback addresses will not do, since they never leave a sandbox. The client is a Python
program, so that python3 is needed in the template and on this machine. The floor is the same client on this
machine. Memory is that of a fresh server only once: flows that ended leave theirs for the next ones.")]
pub struct BenchNetwork {
    /// Connects, one after the other.
    #[arg(short, long, default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub number: u32,
    /// MiB that each throughput moves.
    #[arg(short, long, default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(50..=65_536))]
    pub size: u32,
    /// How often, of which the best counts.
    #[arg(short, long, default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Idle flows whose memory is measured.
    #[arg(short, long, default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub idle: u32,
    /// Address of this machine to connect to, other than loopback; that of its way to the internet otherwise.
    #[arg(short, long)]
    pub address: Option<IpAddr>,
    #[command(flatten)]
    pub on: On,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench runtime
  soulbox bench runtime -n 50 --json

Each sample is a sandbox of its own, beside the same file started without one: the templates must be on this
machine, and root's. The first run makes those of bun and deno. Figures are what a start takes beyond 1.25 times
the bare one, and what `soulbox run` takes beyond its start command.")]
pub struct BenchRuntime {
    /// Starts of each.
    #[arg(short, long, default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub number: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench server
  soulbox bench server -n 50 --json")]
pub struct BenchServer {
    /// How often to start it.
    #[arg(short, long, default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub number: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox bench create
  soulbox bench create -n 500 --template base --json
  soulbox bench create --load

Without a running server a temporary one is started. Every measured sample is paired with one of the
floor: a process with the same namespaces, cgroups and root, made with nothing else around it.")]
pub struct BenchCreate {
    /// Sandboxes to make, one after the other.
    #[arg(short, long, default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub number: u32,
    /// Keep every processor busy with other work meanwhile; the floor is measured without.
    #[arg(long)]
    pub load: bool,
    #[command(flatten)]
    pub on: On,
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
    #[command(flatten)]
    pub on: On,
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
