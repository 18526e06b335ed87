//! How the server runs.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use soulbox_model::{DiskRate, network::Cidr, resources::MIB};

use super::name_server;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox serve
  soulbox serve --listen 0.0.0.0:443 --domain sandboxes.example.com \\
      --tls-cert fullchain.pem --tls-key privkey.pem
  soulbox serve --tls-local

The first start writes an API key to <data-dir>/api-key. SIGINT and SIGTERM end the server; its \
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
