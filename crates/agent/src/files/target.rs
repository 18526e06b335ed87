//! A file that an upload goes to. Everything here blocks.
//!
//! Watchers count what an upload does: a new small file is created, given to its owner and written,
//! three events in all. So there is no temporary file, nothing is reserved or truncated afterwards,
//! and metadata is touched only if it changes. An existing file keeps its inode and mode.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{IoSlice, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::{
    fs::{FileType, Gid, Mode, OFlags, Uid, chown, fchown},
    io::Errno,
};
use serde::Serialize;

use super::refusal::{Refusal, Result};
use crate::{
    State,
    fs::{Actor, Error, directory, metadata},
    paths::base_name,
};

/// One upload request.
#[derive(Debug)]
pub struct Session {
    state: Arc<State>,
    user: Option<String>,
    metadata: BTreeMap<String, String>,
    /// How much the client said it will send, in bytes.
    announced: Option<u64>,
    actor: Mutex<Option<Arc<Actor>>>,
    written: Mutex<HashSet<PathBuf>>,
}

/// What was written, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Saved {
    pub path: String,
    pub name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Saved {
    pub fn new(path: &Path, metadata: BTreeMap<String, String>) -> Self {
        let path = path.to_string_lossy().into_owned();
        Self { name: base_name(&path).to_owned(), path, kind: "file", metadata }
    }
}

impl Session {
    pub fn new(
        state: Arc<State>,
        user: Option<String>,
        metadata: BTreeMap<String, String>,
        announced: Option<u64>,
    ) -> Self {
        Self {
            state,
            user,
            metadata,
            announced,
            actor: Mutex::default(),
            written: Mutex::default(),
        }
    }

    fn actor(&self) -> Result<Arc<Actor>> {
        let mut known = self.actor.lock();
        if let Some(actor) = known.as_ref() {
            return Ok(Arc::clone(actor));
        }
        let actor = Arc::new(Actor::find(&self.state, self.user.as_deref())?);
        *known = Some(Arc::clone(&actor));
        Ok(actor)
    }

    fn failed(&self, path: &Path, doing: &str, error: Errno) -> Refusal {
        let error = match error {
            Errno::ISDIR => is_directory(path),
            error => Error::io(format!("error {doing} file {}", path.display()), error),
        };
        match (&error, self.announced) {
            (Error::NoSpace(_), Some(bytes)) => {
                Refusal::new(error.status(), format!("attempted to write {bytes} bytes: {error}"))
            }
            _ => error.into(),
        }
    }
}

#[derive(Debug)]
pub struct Target {
    session: Arc<Session>,
    path: PathBuf,
    file: File,
}

impl Target {
    /// Opens what `path` means to the acting user, empty and owned by that user.
    pub fn open(session: Arc<Session>, path: &str) -> Result<Self> {
        let actor = session.actor()?;
        let path = actor.resolve(path)?;
        if !session.written.lock().insert(path.clone()) {
            return Err(Refusal::bad_request(format!(
                "you cannot upload multiple files to the same path '{}' in one request",
                path.display()
            )));
        }
        if directory::ensure_parent(&path, &actor.user)? {
            session.state.watchers.settle();
        }
        let owner = (Some(Uid::from_raw(actor.user.uid)), Some(Gid::from_raw(actor.user.gid)));
        let exists = match rustix::fs::stat(&path) {
            Ok(stat) => {
                check_kind(&path, FileType::from_raw_mode(stat.st_mode))?;
                true
            }
            Err(Errno::NOENT) => false,
            Err(error) => return Err(session.failed(&path, "statting", error)),
        };
        if exists {
            chown(&path, owner.0, owner.1)
                .map_err(|error| session.failed(&path, "changing the owner of", error))?;
        }
        // Should a FIFO have taken its place, this must not block.
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::TRUNC
            | OFlags::CLOEXEC
            | OFlags::NOCTTY
            | OFlags::NONBLOCK;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o666))
            .map_err(|error| session.failed(&path, "opening", error))?;
        let stat =
            rustix::fs::fstat(&file).map_err(|error| session.failed(&path, "statting", error))?;
        check_kind(&path, FileType::from_raw_mode(stat.st_mode))?;
        if !exists {
            fchown(&file, owner.0, owner.1)
                .map_err(|error| session.failed(&path, "changing the owner of", error))?;
        }
        Ok(Self { session, path, file: file.into() })
    }

    /// Appends everything, in as few calls as possible: each is an event for watchers.
    pub fn write(&mut self, batch: &[Bytes]) -> Result<()> {
        let mut slices: Vec<IoSlice<'_>> = batch.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut left = slices.as_mut_slice();
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self.file.write_vectored(left) {
                Ok(count) => IoSlice::advance_slices(&mut left, count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let error = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    return Err(self.session.failed(&self.path, "writing", error));
                }
            }
        }
        Ok(())
    }

    /// Replaces the metadata and says what there is now.
    pub fn finish(self) -> Result<Saved> {
        metadata::replace(&self.file, &self.session.metadata)
            .map_err(|error| self.session.failed(&self.path, "setting the metadata of", error))?;
        Ok(Saved::new(&self.path, metadata::read_file(&self.file)))
    }
}

fn check_kind(path: &Path, kind: FileType) -> Result<(), Error> {
    match kind {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(is_directory(path)),
        _ => Err(Error::Invalid(format!("path is not a regular file: {}", path.display()))),
    }
}

fn is_directory(path: &Path) -> Error {
    Error::Invalid(format!("path is a directory: {}", path.display()))
}
