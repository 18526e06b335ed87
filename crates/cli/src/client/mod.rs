//! A small client of the server's public HTTP API and of the agent behind its gateway.

pub mod connect;
mod endpoint;
pub mod files;
pub mod http;
pub mod locate;
mod network;
pub mod process;
pub mod remote;
mod secrets;
pub mod server;
mod templates;

pub use endpoint::Endpoint;
pub use locate::{is_here, locate};
pub use remote::{Remote, Running};
pub use server::Server;
