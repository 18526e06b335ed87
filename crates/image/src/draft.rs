//! A template in the making: a directory that appears under its final name complete or not at all.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use soulbox_model::TemplateId;

use crate::error::{Error, Result};

const PREFIX: &str = ".build-";
const LOCK: &str = ".lock";
/// How often another process's build is looked at.
const LOCK_POLL: Duration = Duration::from_millis(300);
/// How long the processes of a cancelled build may still write into its directory.
const DISCARD_ATTEMPTS: u32 = 50;
const DISCARD_PAUSE: Duration = Duration::from_millis(200);

/// The lock that everybody who builds in `dir` holds; `None` if somebody else does.
pub(crate) fn try_lock(dir: &Path) -> Result<Option<File>> {
    let path = dir.join(LOCK);
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}

/// Waits for the lock; calls `waiting` once if somebody else has it.
pub(crate) async fn lock(dir: &Path, waiting: impl FnOnce()) -> Result<File> {
    let mut waiting = Some(waiting);
    loop {
        if let Some(lock) = try_lock(dir)? {
            return Ok(lock);
        }
        if let Some(waiting) = waiting.take() {
            waiting();
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// Removes what interrupted builds left. Only who holds the lock may call it.
pub(crate) fn remove_leftovers(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let path = entry.path();
            tracing::info!(path = %path.display(), "removing an interrupted template build");
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
}

impl Draft {
    pub fn create(dir: &Path) -> Result<Self> {
        let draft = Self { path: dir.join(format!("{PREFIX}{}", TemplateId::random())) };
        fs::create_dir_all(draft.scratch()).map_err(Error::io("create", &draft.path))?;
        fs::create_dir(draft.content()).map_err(Error::io("create", &draft.path))?;
        Ok(draft)
    }

    /// What is going to be the template.
    pub fn content(&self) -> PathBuf {
        self.path.join("content")
    }

    /// Room for work; goes with the draft.
    pub fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Gives the content its final name. Its content is on disk by then: a crash afterwards does
    /// not leave a template with empty files.
    pub fn publish(self, target: &Path) -> Result<()> {
        let content = self.content();
        let open = File::open(&content).map_err(Error::io("open", &content))?;
        rustix::fs::syncfs(&open).map_err(|e| Error::io("sync", &content)(e.into()))?;
        fs::rename(&content, target).map_err(Error::io("rename", &content))?;
        let parent = target.parent().unwrap_or(target);
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", parent))?;
        fs::remove_dir_all(&self.path).map_err(Error::io("remove", &self.path))
    }

    /// Removes the directory, waiting for processes that were killed but still run.
    pub async fn discard(self) {
        for _ in 0..DISCARD_ATTEMPTS {
            let path = self.path.clone();
            let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await;
            match removed {
                Ok(Ok(())) => return,
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return,
                _ => tokio::time::sleep(DISCARD_PAUSE).await,
            }
        }
        tracing::warn!(path = %self.path.display(), "could not remove an unfinished template build; the next start tries again");
    }
}
