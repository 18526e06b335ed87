//! `soulbox sandbox …`: flags of the commands on sandboxes.

use std::{str::FromStr, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use soulbox_model::{
    Port, SandboxId,
    network::{Destination, HostMask, RequestRate, RequestRule, UdpRule},
};

use super::{byte_count, duration, key_value, request_rate};

#[derive(Debug, Subcommand)]
pub enum Sandbox {
    /// Make a sandbox and print its id.
    Create(Create),
    /// List sandboxes.
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one sandbox.
    Info { id: SandboxId },
    /// Run a command in a sandbox.
    Exec(Exec),
    /// Open a terminal in a sandbox.
    Shell(Shell),
    /// Copy files into or out of a sandbox.
    Cp(Cp),
    /// Show what happened in a sandbox.
    Logs(Logs),
    /// Show what it sent out: each decision, and what was carried.
    Net(Net),
    /// Print the address of a port, with a pass if the ports are private.
    Url(Url),
    /// Show or replace which requests hosts get, how many bytes, and where datagrams go.
    Requests(Requests),
    /// Show what a sandbox used.
    Metrics { id: SandboxId },
    /// End sandboxes.
    Kill(Kill),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox sandbox create
  soulbox sandbox create --template host --timeout 1h --env LANG=C.UTF-8 --metadata job=42
  soulbox sandbox create --no-internet --allow-out '*.example.com' --allow-out 192.0.2.0/24
  soulbox sandbox create --placeholder GITHUB_TOKEN=github

A placeholder is replaced in headers, queries and basic authentication of HTTPS requests, see \
docs/network.md; programs inside never see the value.")]
pub struct Create {
    /// Name or id of the template.
    #[arg(short, long, default_value = "base")]
    pub template: String,
    /// How long it lives.
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "DURATION")]
    pub timeout: Duration,
    /// Variable of every command in it; may be repeated.
    #[arg(short, long, value_parser = key_value, value_name = "KEY=VALUE")]
    pub env: Vec<(String, String)>,
    /// Variable that holds a stored secret, readable inside; may be repeated.
    #[arg(long, value_parser = key_value, value_name = "KEY=SECRET")]
    pub secret: Vec<(String, String)>,
    /// Variable that holds a placeholder, which becomes the secret on the way to the hosts that it is
    /// bound to; may be repeated.
    #[arg(long, value_parser = key_value, value_name = "KEY=SECRET")]
    pub placeholder: Vec<(String, String)>,
    /// Let it reach nothing outside but what --allow-out names.
    #[arg(long)]
    pub no_internet: bool,
    /// Address, range, domain or `*.domain` that it may reach whatever is denied; may be repeated.
    #[arg(long, value_name = "DESTINATION")]
    pub allow_out: Vec<String>,
    /// Address or range that it may not reach; may be repeated.
    #[arg(long, value_name = "CIDR")]
    pub deny_out: Vec<String>,
    /// Let nobody in to its ports without a token or a pass.
    #[arg(long)]
    pub private: bool,
    /// What requests to its ports carry as host; `${PORT}` is the port.
    #[arg(long, value_name = "HOST")]
    pub mask_host: Option<HostMask>,
    /// Label to find it by; may be repeated.
    #[arg(short, long, value_parser = key_value, value_name = "KEY=VALUE")]
    pub metadata: Vec<(String, String)>,
    /// Makes repeats of this request return the same sandbox.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Fail at once when the template is still being built.
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  soulbox sandbox url $id 3000 --valid 8h")]
pub struct Url {
    pub id: SandboxId,
    pub port: Port,
    /// How long the pass lets in; whoever came in stays in for 12 hours.
    #[arg(long, value_parser = duration, default_value = "1h", value_name = "DURATION")]
    pub valid: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox sandbox requests $id
  soulbox sandbox requests $id --allow 'GET,HEAD api.example.com/v1/*' --allow 'POST api.example.com/v1/items'
  soulbox sandbox requests $id --allow 'GET *.example.com/*' --per-minute '*.example.com=600'
  soulbox sandbox requests $id --sent '*=10000000' --udp 192.0.2.1:123
  soulbox sandbox requests $id --clear

What is given replaces all that was there, for open connections too. A host that a rule names gets what one of \
its rules allows, other hosts any request; which hosts are reached at all is a matter of --allow-out. \
Methods are GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, or `*` for any; a path may end in `*`.")]
pub struct Requests {
    pub id: SandboxId,
    /// Request that a host may get; may be repeated.
    #[arg(long, value_name = "METHOD HOST/PATH")]
    pub allow: Vec<RequestRule>,
    /// How many requests a host, or all below a domain together, may get in a minute; may be repeated.
    #[arg(long, value_parser = request_rate, value_name = "HOST=COUNT")]
    pub per_minute: Vec<RequestRate>,
    /// Bytes that a destination may get over the life of the sandbox; may be repeated.
    #[arg(long, value_parser = byte_count, value_name = "DESTINATION=BYTES")]
    pub sent: Vec<(Destination, u64)>,
    /// Bytes that may come from a destination; may be repeated.
    #[arg(long, value_parser = byte_count, value_name = "DESTINATION=BYTES")]
    pub received: Vec<(Destination, u64)>,
    /// Where datagrams may go; may be repeated.
    #[arg(long, value_name = "DESTINATION:PORT")]
    pub udp: Vec<UdpRule>,
    /// Take all of them away.
    #[arg(long, conflicts_with_all = ["allow", "per_minute", "sent", "received", "udp"])]
    pub clear: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  soulbox sandbox list --metadata job=42 --json")]
pub struct List {
    /// Only those with this label; may be repeated.
    #[arg(short, long, value_parser = key_value, value_name = "KEY=VALUE")]
    pub metadata: Vec<(String, String)>,
    /// Only those in this state.
    #[arg(short, long, value_enum)]
    pub state: Option<State>,
    /// Ids only, one per line.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    Running,
    Paused,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox sandbox exec $id -- python3 -c 'print(6*7)'
  tar c src | soulbox sandbox exec $id --cwd /tmp -- tar x
  soulbox sandbox exec $id --tty -- htop

The exit code is the command's own, 124 after --timeout, 130 after Ctrl-C (which ends the command). \
A command that a signal ended gives 128 plus the signal.")]
pub struct Exec {
    pub id: SandboxId,
    /// User that runs it.
    #[arg(short, long)]
    pub user: Option<String>,
    /// Directory to run it in.
    #[arg(short = 'C', long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Variable of the command; may be repeated.
    #[arg(short, long, value_parser = key_value, value_name = "KEY=VALUE")]
    pub env: Vec<(String, String)>,
    /// How long it may run; without end by default.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// Give it a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  soulbox sandbox shell $id --user root")]
pub struct Shell {
    pub id: SandboxId,
    /// User that owns the terminal.
    #[arg(short, long)]
    pub user: Option<String>,
    /// Directory to start in.
    #[arg(short = 'C', long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Variable of the shell; may be repeated.
    #[arg(short, long, value_parser = key_value, value_name = "KEY=VALUE")]
    pub env: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox sandbox cp report.csv $id:/home/user/
  soulbox sandbox cp $id:/home/user/out ./out
  soulbox sandbox cp ./project $id:/home/user/project

Exactly one side is in a sandbox. A directory is copied with everything in it. A destination that ends in \
`/` or is a directory receives the source under its own name. Relative remote paths start in the \
user's home. A file called `a:b` on this machine is written `./a:b`.")]
pub struct Cp {
    /// `PATH` or `ID:PATH`.
    #[arg(value_name = "FROM")]
    pub from: Place,
    /// `PATH` or `ID:PATH`.
    #[arg(value_name = "TO")]
    pub to: Place,
    /// User whose permissions count inside, and who owns what is written.
    #[arg(short, long)]
    pub user: Option<String>,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Here(std::path::PathBuf),
    There(SandboxId, String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty path names nothing".into());
        }
        match text.split_once(':') {
            Some((id, path)) if !id.contains('/') => {
                let id = id.parse().map_err(|error| {
                    format!("{error}; write ./{text} for a file of this machine")
                })?;
                Ok(Self::There(id, if path.is_empty() { ".".into() } else { path.to_owned() }))
            }
            _ => Ok(Self::Here(text.into())),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  soulbox sandbox logs -f $id")]
pub struct Logs {
    pub id: SandboxId,
    /// Go on until the sandbox ends or Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    /// Least level to show.
    #[arg(short, long, value_enum)]
    pub level: Option<Level>,
    /// Only lines that hold this text.
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  soulbox sandbox net -f $id\n  soulbox sandbox net $id --json | jq '.[] | select(.decision == \"denied\")'"
)]
pub struct Net {
    pub id: SandboxId,
    /// Go on until the sandbox ends or Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  soulbox sandbox kill $id\n  soulbox sandbox kill --all")]
pub struct Kill {
    /// Sandboxes to end.
    #[arg(required_unless_present = "all")]
    pub ids: Vec<SandboxId>,
    /// Every sandbox of the key's team.
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_here_or_there() {
        let id: SandboxId = "iabcdefghij0123456789".parse().expect("an id");
        assert_eq!("iabcdefghij0123456789:/x".parse(), Ok(Place::There(id.clone(), "/x".into())));
        assert_eq!("iabcdefghij0123456789:".parse(), Ok(Place::There(id, ".".into())));
        assert_eq!("./a:b".parse(), Ok(Place::Here("./a:b".into())));
        assert_eq!("dir/x".parse(), Ok(Place::Here("dir/x".into())));
        assert!("nosuchid:/x".parse::<Place>().is_err());
        assert!("".parse::<Place>().is_err());
    }
}
