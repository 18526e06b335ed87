//! Where the battery is carried out.

use std::{net::SocketAddr, path::PathBuf};

/// A running server on this machine, and the rights to watch it.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Its listener, which answers plain HTTP to this machine.
    pub address: SocketAddr,
    /// An API key of the team that attacks.
    pub key: String,
    /// A key of another team; without one, what needs it is skipped.
    pub stranger: Option<String>,
    pub template: String,
    pub data_dir: PathBuf,
    /// The server's process.
    pub server: u32,
}
