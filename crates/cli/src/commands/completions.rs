//! `soulbox completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{args::Cli, failure::Result, output::gone};

pub(super) fn run(shell: Shell) -> Result<()> {
    use std::io::Write as _;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "soulbox", &mut script);
    std::io::stdout().write_all(&script).map_err(gone)
}
