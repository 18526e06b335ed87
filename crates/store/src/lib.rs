//! Persistent state: teams, API keys, sandboxes and what they used of their limits, idempotency keys and
//! sealed secrets, in SQLite.
//!
//! For what must survive the server, and nothing else: what changes by the second lives in memory
//! in `control`. Environment variables and access tokens of sandboxes are never written; tokens
//! are derived from the [`ServerSecret`]. Queries keep to the SQL that Postgres shares.
//! Start with [`Store::open`], then [`sandbox`](SandboxRow) and [`key`](ApiKey).

mod api_keys;
mod busy;
mod bytes;
mod domains;
mod error;
mod file;
mod idempotency;
mod key;
mod migrations;
mod passing;
mod sandboxes;
mod sealed;
mod secret;
mod secrets;
mod teams;
mod time;
mod vault;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use domains::DomainRow;
pub use error::{Error, Result};
pub use idempotency::{Idempotency, IdempotencyRow};
pub use key::{ApiKey, KEY_PREFIX, KeyHash, Mask, NewKey};
pub use sandboxes::{Loaded, SandboxRow, SandboxState};
pub use secret::ServerSecret;
pub use secrets::{NewSecret, Rotation, SECRETS_FULL, Secret, SecretChange, SecretRef};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
pub use teams::Team;
use vault::Vault;

use crate::busy::BUSY_TIMEOUT;

/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// WAL pages after which a commit checkpoints by itself, should [`Store::checkpoint`] not run.
const WAL_PAGES: &str = "8000";

/// The database of one server. Clones share it.
///
/// One connection writes, so that writers queue here and not on SQLite's lock; others read.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
    secret: Arc<ServerSecret>,
    vault: Arc<Vault>,
    default_team: Team,
}

impl Store {
    /// Opens the database in the file `path`, makes it on first use and brings its tables up to date.
    ///
    /// The file, the server secret `secret.key` and the keys of secrets `vault.key` beside it have
    /// mode 0600; the directory must exist. A fresh database has one team and no key; see [`Store::ensure_first_key`]. Other
    /// processes may have it open too.
    ///
    /// # Errors
    /// If the file cannot be made or read, is no database, or is of a newer version.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let prepared = path.clone();
        // The lock keeps two processes from setting up a fresh database at once.
        let (secret, vault, lock) = tokio::task::spawn_blocking(move || prepare(&prepared))
            .await
            .map_err(|e| Error::io("open", &path)(std::io::Error::other(e)))??;

        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            // What is removed is overwritten in the database.
            .pragma("secure_delete", "ON")
            .pragma("wal_autocheckpoint", WAL_PAGES);
        let pool = SqlitePoolOptions::new()
            .min_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None);
        let writer = pool
            .clone()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(Error::database("open"))?;
        migrations::run(&writer).await?;
        let default_team = teams::ensure_default(&writer).await?;
        let reader = pool
            .max_connections(2)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(Error::database("open"))?;
        let (secret, vault) = (Arc::new(secret), Arc::new(vault));
        let store = Self { writer, reader, secret, vault, default_team };
        store.seal_networks().await?;
        drop(lock);
        Ok(store)
    }

    /// What this server derives tokens from.
    pub fn secret(&self) -> &ServerSecret {
        &self.secret
    }

    /// The team that exists from the first start on.
    pub fn default_team(&self) -> &Team {
        &self.default_team
    }

    /// Moves what the write-ahead log holds into the database, beside readers and the writer.
    ///
    /// Called now and then, it keeps the disk flush of a checkpoint away from commits.
    pub async fn checkpoint(&self) -> Result<()> {
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .execute(&self.reader)
            .await
            .map(drop)
            .map_err(Error::database("checkpoint"))
    }

    /// Closes the connections; later calls fail.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn prepare(path: &Path) -> Result<(ServerSecret, Vault, std::fs::File)> {
    use std::os::unix::fs::OpenOptionsExt;
    let secret_path: PathBuf = path.with_file_name("secret.key");
    let (secret, lock) = ServerSecret::load_or_create(&secret_path)?;
    let vault = Vault::load_or_create(&path.with_file_name("vault.key"))?;
    // SQLite gives its side files the mode of the database.
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("open", path))?;
    Ok((secret, vault, lock))
}
