//! What is measured, and how often.

use std::net::IpAddr;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum Bench {
    #[command(flatten)]
    Live(Live),
    /// The way out of a sandbox: connect and first byte, throughput, changed rules, memory of idle flows.
    Network(Network),
    /// Cold starts of python3, node, bun and deno, and a project to ready.
    Runtime(Runtime),
    /// From the start of the server to its first answer.
    Server(Server),
}

/// What is measured on a server that runs.
#[derive(Debug, Subcommand)]
pub enum Live {
    /// From the request to create a sandbox to the exit code of its first command.
    Create(Create),
    /// Many sandboxes at once, each through its first command.
    Burst(Burst),
    /// Create, command and kill without a pause.
    Sustained(Sustained),
    /// Round trip of a command in a live sandbox.
    Exec(Exec),
    /// A large file into a sandbox and back.
    Files(Files),
    /// What many idle sandboxes take, and how the API answers beside them.
    Density(Density),
}

impl Live {
    pub fn on(&self) -> &On {
        match self {
            Self::Create(Create { on, .. })
            | Self::Burst(Burst { on, .. })
            | Self::Sustained(Sustained { on, .. })
            | Self::Exec(Exec { on, .. })
            | Self::Files(Files { on, .. })
            | Self::Density(Density { on, .. }) => on,
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
pub struct Burst {
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
pub struct Sustained {
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
pub struct Files {
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
pub struct Density {
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
  soulbox bench network --rounds 20 --json
  soulbox bench network --address 192.168.1.20

Sandboxes connect to a server that this command runs on an address of this machine, which the SoulBox server \
must open to them: `soulbox serve --allow-private-egress ADDRESS`. Without a running server a temporary one \
is started that way. Loopback addresses will not do, since they never leave a sandbox. The client is a Python \
program, so that python3 is needed in the template and on this machine. The floor is the same client on this \
machine. Memory is that of a fresh server only once: flows that ended leave theirs for the next ones.

Throughput is measured in pairs, directly and through, each first in every other one. Figures are medians of the \
rounds, with the least and the most; the ratio is that of the pairs. Who sends and who receives have a processor each, \
directly and through alike: on one and the same a direct flow is several times faster, which no flow to another \
machine is, and the scheduler would choose anew each time. The server runs where it likes.")]
pub struct Network {
    /// Connects, one after the other.
    #[arg(short, long, default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub number: u32,
    /// MiB that each throughput moves.
    #[arg(short, long, default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(50..=65_536))]
    pub size: u32,
    /// How often, of which the median counts.
    #[arg(short, long, default_value_t = 9)]
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

Each sample is a sandbox of its own, beside the same file started without one: the templates must be on this \
machine, and root's. The first run makes those of bun and deno. Figures are what a start takes beyond 1.25 times \
the bare one, and what `soulbox run` takes beyond its start command.")]
pub struct Runtime {
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
pub struct Server {
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

Without a running server a temporary one is started. Every measured sample is paired with one of the \
floor: a process with the same namespaces, cgroups and root, made with nothing else around it.")]
pub struct Create {
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
pub struct Exec {
    /// Commands to run, one after the other.
    #[arg(short, long, default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub number: u32,
    #[command(flatten)]
    pub on: On,
}
