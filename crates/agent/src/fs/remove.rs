//! Deleting a tree of any depth without following links, with a fixed number of descriptors.
//!
//! Trees may be deeper than a path can be long, and than there are descriptors or stack for: the
//! walk holds one directory open, goes up by `..`, and checks that it arrived where it came from.

use std::{
    ffi::{CStr, CString},
    os::fd::OwnedFd,
    path::{Component, Path},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, fstat, openat, unlinkat},
    io::Errno,
};

use super::error::{Error, Result};

/// How many names of a directory are held at a time.
const BATCH: usize = 256;

/// Deletes what `path` names, with everything below it; a link is deleted itself. Nothing there is fine.
pub fn remove(path: &Path) -> Result<()> {
    if path.components().all(|part| part == Component::RootDir) {
        return Err(Error::Invalid("the root directory cannot be removed".to_owned()));
    }
    remove_tree(path)
        .map_err(|error| Error::io(format!("error removing {}", path.display()), error))
}

struct Level {
    /// Device and inode, to recognise the directory on the way up.
    identity: (u64, u64),
    name: CString,
    batch: Vec<CString>,
}

fn remove_tree(path: &Path) -> Result<(), Errno> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        // Linux says EISDIR for directories; POSIX and some file systems EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    let Some(mut current) = enter(CWD, path)? else { return Ok(()) };
    let mut levels = vec![Level::of(&current, c"")?];
    while let Some(level) = levels.last_mut() {
        if level.batch.is_empty() {
            level.batch = read_batch(&current)?;
        }
        if let Some(name) = level.batch.pop() {
            if let Some(child) = remove_or_enter(&current, &name)? {
                levels.push(Level::of(&child, &name)?);
                current = child;
            }
            continue;
        }
        // This directory is empty now.
        let Some(done) = levels.pop() else { break };
        let Some(above) = levels.last() else { break };
        let parent = openat(&current, c"..", DIRECTORY, Mode::empty())?;
        if identity(&parent)? != above.identity {
            // Moved away while it was being deleted: nothing outside the tree may be touched.
            return Err(Errno::BUSY);
        }
        forgive(unlinkat(&parent, &done.name, AtFlags::REMOVEDIR))?;
        current = parent;
    }
    drop(current);
    forgive(unlinkat(CWD, path, AtFlags::REMOVEDIR))
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Level {
    fn of(directory: &OwnedFd, name: &CStr) -> Result<Self, Errno> {
        Ok(Self { identity: identity(directory)?, name: name.to_owned(), batch: Vec::new() })
    }
}

fn identity(directory: &OwnedFd) -> Result<(u64, u64), Errno> {
    fstat(directory).map(|stat| (stat.st_dev, stat.st_ino))
}

/// Deletes a name that is no directory; opens it if it is one.
fn remove_or_enter(directory: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(refused @ (Errno::ISDIR | Errno::PERM)) => match enter(directory, name) {
            Err(Errno::NOTDIR) => Err(refused),
            result => result,
        },
        result => forgive(result).map(|()| None),
    }
}

fn enter(
    directory: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg,
) -> Result<Option<OwnedFd>, Errno> {
    match openat(directory, name, DIRECTORY, Mode::empty()) {
        Ok(child) => Ok(Some(child)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_batch(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut batch = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            batch.push(entry.file_name().to_owned());
        }
        if batch.len() == BATCH {
            break;
        }
    }
    Ok(batch)
}

fn forgive(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::mkdirat;

    use super::*;

    #[test]
    fn removes_files_links_and_trees_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("kept/inner")).unwrap();
        fs::create_dir_all(root.join("tree/a/b")).unwrap();
        for index in 0..600 {
            fs::write(root.join(format!("tree/a/{index}")), "").unwrap();
            fs::create_dir(root.join(format!("tree/a/b/{index}"))).unwrap();
        }
        symlink(root.join("kept"), root.join("tree/a/link")).unwrap();
        symlink("kept", root.join("link")).unwrap();
        remove(&root.join("tree")).unwrap();
        remove(&root.join("link")).unwrap();
        remove(&root.join("nothing/there")).unwrap();
        let left: Vec<_> = fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        assert!(root.join("kept/inner").is_dir());
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let mut current = enter(CWD, root.path()).unwrap().unwrap();
        for _ in 0..5000 {
            mkdirat(&current, c"d", Mode::RWXU).unwrap();
            current = enter(&current, c"d").unwrap().unwrap();
        }
        drop(current);
        remove(&root.path().join("d")).unwrap();
        assert!(fs::read_dir(root.path()).unwrap().next().is_none());
    }
}
