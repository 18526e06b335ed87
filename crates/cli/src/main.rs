//! The `soulbox` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    soulbox_cli::main()
}
