//! The `filesystem.Filesystem` service: what clients ask about files, apart from their contents.
//!
//! Every operation runs with the agent's own rights, as root of the sandbox; the acting user decides
//! what `~` and relative paths mean and who owns what is made. Calls that touch a disk run on
//! blocking threads, one hop per request. Start reading at [`service`].

pub mod directory;
pub mod entry;
pub mod error;
pub mod list;
pub mod metadata;
pub mod remove;

pub use entry::{Entry, Kind};
pub use error::{Error, Result};
