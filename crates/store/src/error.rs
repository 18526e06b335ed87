//! What the store can fail with.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} {}: {source}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("database: {operation}: {source}")]
    Database {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("database tables cannot be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// What was read is not what this server wrote.
    #[error("database holds an unreadable {what}: {detail}")]
    Corrupt { what: &'static str, detail: String },
    #[error("the secret file {} is unusable: {detail}", path.display())]
    Secret { path: PathBuf, detail: String },
    /// The name, key or id is taken.
    #[error("{0} is taken")]
    Taken(&'static str),
    #[error("`{0}` leads to another sandbox: end that one, or take another name")]
    NameTaken(String),
    /// It can't be that: the field and why.
    #[error("{0}: {1}")]
    Unfit(&'static str, &'static str),
    /// There are as many as there may be.
    #[error("{0}")]
    Full(&'static str),
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }

    pub(crate) fn database(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { operation, source }
    }

    pub(crate) fn corrupt<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Corrupt { what, detail: error.to_string() }
    }

    /// The primary result code of SQLite, if it gave one.
    fn sqlite_code(&self) -> Option<i32> {
        let Self::Database { source: sqlx::Error::Database(error), .. } = self else { return None };
        // The low byte of an extended code is the primary one.
        error.code()?.parse::<i32>().ok().map(|code| code & 0xff)
    }
}

const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_FULL: i32 = 13;

impl soulbox_model::Retryable for Error {
    /// Whether somebody else held the database: nothing was done then.
    fn retryable(&self) -> bool {
        matches!(self.sqlite_code(), Some(SQLITE_BUSY | SQLITE_LOCKED))
    }

    fn retry_delay(&self) -> Option<Duration> {
        None
    }
}

impl From<Error> for soulbox_model::Error {
    fn from(error: Error) -> Self {
        match (&error, error.sqlite_code()) {
            (_, Some(SQLITE_FULL)) => {
                let reason = "the disk of the data directory is full: free space there";
                Self::unavailable(reason, Duration::from_secs(30)).because(error)
            }
            (_, Some(SQLITE_BUSY | SQLITE_LOCKED)) => {
                let reason = "the database is busy: try again";
                Self::unavailable(reason, Duration::from_secs(1)).because(error)
            }
            (Error::Unfit(field, why), _) => Self::invalid(*field, *why),
            (Error::Taken(_) | Error::NameTaken(_) | Error::Full(_), _) => {
                Self::Conflict(error.to_string())
            }
            _ => Self::internal("the database failed", error),
        }
    }
}
