//! Making directories and moving files, with the acting user as owner of what is made.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Gid, Mode, Uid, chownat, mkdir},
    io::Errno,
};

use super::error::{Error, Result};
use crate::users::User;

/// Makes `path` and its missing parents. Exactly one directory must be new: an existing one is an error.
pub fn make(path: &Path, owner: &User) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(Error::AlreadyExists(format!("directory already exists: {}", path.display())))
        }
        Ok(_) => Err(Error::Invalid(format!(
            "path already exists but it is not a directory: {}",
            path.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => ensure(path, owner).map(drop),
        Err(error) => Err(cannot_make(path, error)),
    }
}

/// Makes the missing directories above `path`; says whether there were any.
pub fn ensure_parent(path: &Path, owner: &User) -> Result<bool> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => ensure(parent, owner),
        _ => Ok(false),
    }
}

/// Renames, replacing a file at the destination as rename(2) does.
pub fn rename(source: &Path, destination: &Path, owner: &User) -> Result<()> {
    rustix::fs::lstat(source).map_err(|error| missing_source(source, error))?;
    ensure_parent(destination, owner)?;
    rustix::fs::rename(source, destination).map_err(|error| missing_source(source, error))
}

fn missing_source(source: &Path, error: Errno) -> Error {
    match error {
        Errno::NOENT => Error::NotFound(format!("source file not found: {}", source.display())),
        error => Error::io(format!("error renaming {}", source.display()), error),
    }
}

fn ensure(path: &Path, owner: &User) -> Result<bool> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        match fs::metadata(ancestor) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(cannot_make(ancestor, Errno::NOTDIR.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(ancestor),
            Err(error) => return Err(cannot_make(ancestor, error)),
        }
    }
    for directory in missing.iter().rev() {
        make_one(directory, owner).map_err(|error| cannot_make(directory, error))?;
    }
    Ok(!missing.is_empty())
}

fn make_one(path: &Path, owner: &User) -> io::Result<()> {
    match mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => {
            chown(path, owner)?;
            Ok(())
        }
        // Somebody else was faster, or the path goes back and forth with `..`.
        Err(Errno::EXIST) if fs::metadata(path).is_ok_and(|found| found.is_dir()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn chown(path: &Path, owner: &User) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn cannot_make(path: &Path, error: io::Error) -> Error {
    Error::io(format!("error creating directory {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn owner() -> User {
        User {
            name: "someone".to_owned(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            home: "/".to_owned(),
            shell: "/bin/sh".to_owned(),
        }
    }

    #[test]
    fn makes_every_missing_parent() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/../b/c");
        make(&path, &owner()).unwrap();
        assert!(root.path().join("a/b/c").is_dir());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o755);
        assert!(matches!(make(&path, &owner()), Err(Error::AlreadyExists(_))));
    }

    #[test]
    fn files_in_the_way_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(make(&file, &owner()), Err(Error::Invalid(_))));
        assert!(matches!(make(&file.join("below"), &owner()), Err(Error::Io { .. })));
        let long = root.path().join("x".repeat(300));
        assert!(matches!(make(&long, &owner()), Err(Error::Invalid(_))));
    }

    #[test]
    fn a_failed_rename_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("deep/er/to"));
        assert!(matches!(rename(&from, &to, &owner()), Err(Error::NotFound(_))));
        assert!(!root.path().join("deep").exists());
        fs::write(&from, "x").unwrap();
        rename(&from, &to, &owner()).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"x");
    }
}
