//! `soulbox team …`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Team {
    /// Make a team: what is of one team is invisible to the others.
    #[command(after_help = "\
Examples:
  soulbox team create research
  soulbox key create ci --team research")]
    Create {
        /// Short name, 1 to 63 of a-z, 0-9 and -.
        slug: String,
        /// What people call it; the short name when absent.
        #[arg(long)]
        name: Option<String>,
    },
    /// List teams.
    #[command(visible_alias = "ls")]
    List,
}
