//! The global flags, resolved once: what every command gets.

use std::net::SocketAddr;

use clap::{ArgMatches, parser::ValueSource};

use crate::{
    args::{Global, LogFormat},
    data_dir::DataDir,
    output::Output,
};

#[derive(Debug, Clone)]
pub struct Settings {
    pub data_dir: DataDir,
    /// Whether the command line itself names the data directory; it then outweighs `E2B_API_URL`.
    pub names_data_dir: bool,
    pub listen: SocketAddr,
    /// Whether the command line itself names the address.
    pub names_listen: bool,
    pub log_format: LogFormat,
    pub api_url: Option<String>,
    pub api_key: Option<String>,
    pub output: Output,
}

impl Settings {
    pub fn new(global: Global, matches: &ArgMatches) -> Self {
        let typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        Self {
            names_data_dir: typed("data_dir"),
            names_listen: typed("listen"),
            data_dir: DataDir::new(global.data_dir),
            listen: global.listen,
            log_format: global.log_format,
            api_url: global.api_url,
            api_key: global.api_key,
            output: Output::new(global.json),
        }
    }
}
