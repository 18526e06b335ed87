//! A template in the making: a directory that appears under its final name complete or not at all.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use soulbox_model::TemplateId;

use crate::{
    error::{Error, Result},
    tree,
};

const PREFIX: &str = ".build-";
const PRUNED: &str = ".build-pruned-";
pub(crate) const CONTENT: &str = "content";
const LOCK: &str = ".lock";
/// How often another process's build is looked at.
const LOCK_POLL: Duration = Duration::from_millis(300);
/// How long the processes of a cancelled build may still write into its directory.
const DISCARD_ATTEMPTS: u32 = 50;
const DISCARD_PAUSE: Duration = Duration::from_millis(200);

/// The lock that whoever builds in `dir` holds; `None` if somebody else does.
pub(crate) fn try_lock(dir: &Path) -> Result<Option<File>> {
    try_lock_by(dir, File::try_lock)
}

/// Takes a complete template away at once, so that no crash leaves half of it, and removes it.
pub(crate) fn remove_complete(dir: &Path, home: &str) -> Result<()> {
    let (path, pruned) = (dir.join(home), dir.join(format!("{PRUNED}{home}")));
    match fs::rename(&path, &pruned) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(Error::io("rename", &path))?,
    }
    tree::remove(&pruned).map_err(Error::io("remove", &pruned))
}

/// The lock in the mode that `take` asks for.
fn try_lock_by(
    dir: &Path,
    take: impl FnOnce(&File) -> std::result::Result<(), TryLockError>,
) -> Result<Option<File>> {
    let path = dir.join(LOCK);
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(Error::io("open", &path))?;
    match take(&file) {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}

/// Waits for the lock; calls `waiting` once if somebody else has it. Those who `share` it keep out
/// only who wants it alone.
pub(crate) async fn lock(dir: &Path, share: bool, waiting: impl FnOnce()) -> Result<File> {
    let mut waiting = Some(waiting);
    let take = if share { File::try_lock_shared } else { File::try_lock };
    loop {
        if let Some(lock) = try_lock_by(dir, take)? {
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
            tree::remove(&path).map_err(Error::io("remove", &path))?;
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
        self.path.join(CONTENT)
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
        tree::remove(&self.path).map_err(Error::io("remove", &self.path))
    }

    /// Removes the directory, waiting for processes that were killed but still run.
    pub async fn discard(self) {
        for _ in 0..DISCARD_ATTEMPTS {
            let path = self.path.clone();
            let removed = tokio::task::spawn_blocking(move || tree::remove(&path)).await;
            match removed {
                Ok(Ok(())) => return,
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return,
                _ => tokio::time::sleep(DISCARD_PAUSE).await,
            }
        }
        tracing::warn!(path = %self.path.display(), "could not remove an unfinished template build; the next start tries again");
    }
}
