//! `soulbox init`, `config` and `runtime`: what a project is, before it runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::runtime_id;

/// Which project, and what holds in it instead of what its file says.
#[derive(Debug, Clone, Args)]
pub struct ProjectArgs {
    /// Directory of the project, with its soulbox.toml.
    #[arg(short = 'C', long = "project", value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Value for a key instead of the file's, as in `resources.memory=1GB`; may be repeated.
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox init
  soulbox init my-app --runtime deno
  soulbox init --force --json

Looks at the files of the directory, says which runtime it is for and why, and writes a soulbox.toml with \
a comment for every key. An existing one stays as it is, unless --force is given.

Exit codes: 0 written; 2 there is one already, or a flag is wrong; others as for every command.")]
pub struct Init {
    /// Directory of the project.
    #[arg(value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Name of the project, instead of the nearest one to the directory's.
    #[arg(long)]
    pub name: Option<String>,
    /// Runtime, instead of the one that is found; `soulbox runtime list` has their names.
    #[arg(long, value_name = "RUNTIME", value_parser = runtime_id)]
    pub runtime: Option<soulbox_runtime::detect::Runtime>,
    /// Write over a soulbox.toml that is there.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Say everything that is wrong with the project file.
    #[command(after_help = "\
Examples:
  soulbox config check
  soulbox config check -C my-app --set resources.memory=1GB
  soulbox config check --json | jq -r '.problems[] | \"\\(.file):\\(.line): \\(.message)\"'

With --json it prints valid, file and problems, each of those with kind, field, message, expected, suggestion, file, \
line, column, end_line, end_column and span (bytes).

Variables set keys, too: SOULBOX_RESOURCES_MEMORY=1GB is --set resources.memory=1GB, which wins over it.

Exit codes: 0 nothing is wrong; 2 something is; 3 there is no project file.")]
    Check(ProjectArgs),
    /// Print the project as it holds, with defaults and overrides; secrets are names here, too.
    #[command(after_help = "\
Examples:
  soulbox config show
  soulbox config show --set resources.cpu=500m
  soulbox config show --json | jq -r .resources.memory_bytes")]
    Show(ProjectArgs),
    /// Write values into the project file, and leave the rest of it as it is, comments included.
    #[command(after_help = "\
Examples:
  soulbox config set resources.memory=1GB network.ports=8080,9090
  soulbox config set 'commands.start=[\"python3\", \"app.py\"]'

Nothing is written if the file would be wrong then.")]
    Set {
        /// Directory of the project.
        #[arg(short = 'C', long = "project", value_name = "DIR", default_value = ".")]
        directory: PathBuf,
        #[arg(required = true, value_name = "TABLE.KEY=VALUE")]
        values: Vec<String>,
    },
    /// Print the JSON Schema of project files, for editors.
    #[command(after_help = "Examples:\n  soulbox config schema > soulbox.schema.json")]
    Schema,
}

#[derive(Debug, Subcommand)]
pub enum Runtime {
    /// Say which runtime a directory is for, and why.
    #[command(after_help = "\
Examples:
  soulbox runtime detect
  soulbox runtime detect my-app --json | jq -r .runtime
  soulbox runtime detect --watch --json | jq --unbuffered -r .runtime

With --json it prints runtime, version, rule, evidence, against, parts, outside, truncated and installed; with --watch, \
one such object in a line whenever it is another one.

Exit codes: 0 one was found; 3 none was, or there is no such directory; with --watch, 130 after Ctrl-C.")]
    Detect {
        /// Directory of the project.
        #[arg(value_name = "DIR", default_value = ".")]
        directory: PathBuf,
        /// Go on until Ctrl-C, and say it anew whenever files change the answer.
        #[arg(short, long)]
        watch: bool,
    },
    /// List runtimes, and what each is found by.
    #[command(visible_alias = "ls")]
    List,
}
