//! The way of an upload from the network to its file: one batch is written while the next comes in.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    refusal::{Refusal, Result},
    target::{Saved, Session, Target},
};
use crate::fs::blocking;

/// How much is gathered before it is written, in bytes. Smaller files are written in one call.
const BATCH: usize = 1024 * 1024;
/// How many pieces one call can write.
const MAX_PIECES: usize = 1024;

#[derive(Debug)]
pub struct Writer {
    session: Arc<Session>,
    path: String,
    batch: Vec<Bytes>,
    bytes: usize,
    /// Opens the file with the first batch, writes one batch, and gives it back.
    working: Option<JoinHandle<Result<Target>>>,
}

impl Writer {
    /// Nothing is touched until the first batch is full, or [`Self::flush`] or [`Self::finish`].
    pub fn new(session: Arc<Session>, path: String) -> Self {
        Self { session, path, batch: Vec::new(), bytes: 0, working: None }
    }

    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes += bytes.len();
        self.batch.push(bytes);
        if self.bytes >= BATCH || self.batch.len() >= MAX_PIECES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Whether something waits for more to come.
    pub fn is_gathering(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Starts to write what was gathered, once the batch before it is written.
    pub async fn flush(&mut self) -> Result<()> {
        let before = self.settle().await?;
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let (session, path) = (Arc::clone(&self.session), self.path.clone());
        self.working = Some(spawn_blocking(move || {
            let mut target = before.map_or_else(|| Target::open(session, &path), Ok)?;
            target.write(&batch)?;
            Ok(target)
        }));
        Ok(())
    }

    /// Writes the rest and the metadata.
    pub async fn finish(mut self) -> Result<Saved> {
        let before = self.settle().await?;
        let Self { session, path, batch, .. } = self;
        blocking(move || {
            let mut target = before.map_or_else(|| Target::open(session, &path), Ok)?;
            target.write(&batch)?;
            target.finish()
        })
        .await?
    }

    async fn settle(&mut self) -> Result<Option<Target>> {
        let Some(working) = self.working.take() else { return Ok(None) };
        match working.await {
            Ok(target) => target.map(Some),
            Err(_) => Err(Refusal::from(crate::fs::Error::Internal(
                "writing was given up because the agent ends".to_owned(),
            ))),
        }
    }
}
