//! `soulbox secret …`: values come from standard input or a file, never from the command line,
//! which every process of the machine can read.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::key_value;

#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Store a value, or change one that is there.
    Set(Set),
    /// List secrets; never their values.
    #[command(visible_alias = "ls")]
    List,
    /// Delete secrets.
    #[command(visible_alias = "delete")]
    Rm {
        /// Names or ids.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Seal every secret in the data directory with a fresh key; a running server takes part.
    #[command(after_help = "Examples:\n  soulbox secret rotate-key")]
    RotateKey,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  printf %s \"$TOKEN\" | soulbox secret set github --host api.github.com
  soulbox secret set deploy-key --from-file id_ed25519
  soulbox secret set github --keep-value --host api.github.com --host '*.ghe.example.com'

One line break at the end of the value is not part of it, unless --raw is given. A secret with --host \
reaches those hosts alone, and never the environment of a sandbox: see `sandbox create --placeholder`.")]
pub struct Set {
    /// 1 to 128 of a-z, 0-9, - and _.
    pub name: String,
    /// Read the value from this file instead of standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "keep_value")]
    pub from_file: Option<PathBuf>,
    /// Leave the value as it is.
    #[arg(long)]
    pub keep_value: bool,
    /// Take the value as it is, the last line break included.
    #[arg(long)]
    pub raw: bool,
    /// Domain or `*.domain` that it may be sent to; may be repeated.
    #[arg(long, value_name = "HOST", conflicts_with = "any_host")]
    pub host: Vec<String>,
    /// Let rules send it to any host.
    #[arg(long)]
    pub any_host: bool,
    /// Label; may be repeated, and replaces all that are there.
    #[arg(short, long, value_parser = key_value, value_name = "KEY=VALUE")]
    pub metadata: Vec<(String, String)>,
}
