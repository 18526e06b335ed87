//! The `filesystem.Filesystem` service: what clients ask about files, apart from their contents.
//!
//! Every operation runs with the agent's own rights, as root of the sandbox; the acting user decides
//! what `~` and relative paths mean and who owns what is made. Calls that touch a disk run on
//! blocking threads, one hop per request. Start reading at [`service`].

pub mod actor;
pub mod directory;
pub mod entry;
pub mod error;
pub mod list;
pub mod metadata;
pub mod remove;
pub mod service;
pub mod watch;
mod wire;

pub use actor::Actor;
pub use entry::{Entry, Kind};
pub use error::{Error, Result};
pub use service::FilesystemService;
pub use watch::Watchers;

/// Runs work that may block on a thread that may be blocked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Internal("the work was given up because the agent ends".to_owned()))
}
