//! Files of a project, read without leaving its directory.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use super::{Problem, Result};

/// Bytes of one file.
const MAX_FILE: u64 = 4 << 20;
/// Entries of one directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, directory, flags, Mode::empty()).map(Self).map_err(|error| Problem::Read {
            file: directory.display().to_string(),
            source: error.into(),
        })
    }

    /// The text of a regular file; none where there is nothing of that name.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>> {
        let read = |source| Problem::Read { file: path.to_owned(), source };
        let Some(bytes) = self.bytes(path)? else { return Ok(None) };
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| read(io::Error::other("it is not UTF-8")))
    }

    pub(super) fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let read = |source| Problem::Read { file: path.to_owned(), source };
        // NONBLOCK: a pipe without a writer would hold us up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.within(path, flags) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) if self.is_listed(path) => {
                return Err(read(io::Error::other("it is a link that leads nowhere")));
            }
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::XDEV) => return Err(outside(path)),
            Err(error) => return Err(read(error.into())),
        };
        if !file.metadata().map_err(read)?.is_file() {
            return Err(read(io::Error::other("it is no regular file")));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(read(io::Error::other(format!("more than {} MiB", MAX_FILE >> 20))));
        }
        Ok(Some(bytes))
    }

    /// Whether there is something of that name, if only a link that leads out or nowhere.
    pub(super) fn is_listed(&self, name: &str) -> bool {
        self.within(name, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW).is_ok()
    }

    /// Names in the directory `path`, sorted; nothing where it is none.
    pub(super) fn names(&self, path: &str, kinds: &[FileType]) -> Vec<String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = self.within(path, flags).and_then(Dir::new) else { return Vec::new() };
        let mut names: Vec<String> = dir
            .take(MAX_ENTRIES)
            .flatten()
            .filter(|entry| kinds.contains(&entry.file_type()))
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort_unstable();
        names
    }

    fn within(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.0, path, flags, Mode::empty(), resolve)
    }
}

pub(super) fn outside(path: &str) -> Problem {
    let message = "it lies outside of the project's directory";
    Problem::in_file(path, message, "what an installation needs must lie in the project")
}

/// `reference`, as written in a file of the directory `folder`, from the project's directory.
pub(super) fn beside(folder: &str, reference: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if reference.starts_with('/') {
        return None;
    }
    for part in reference.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The directory of a file.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
