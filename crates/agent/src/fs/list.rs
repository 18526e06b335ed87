//! Walking a directory tree: names in byte order, parents before children, no link followed.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    vec,
};

use rustix::{fs::FileType, io::Errno};

use super::{
    entry::Entry,
    error::{Error, Result},
};
use crate::users::Users;

/// How much one listing may take in memory, in bytes: more than 100 000 entries.
const MAX_LISTING: usize = 64 * 1024 * 1024;
/// How much all listings that are being made may take together, in bytes.
const MAX_LISTINGS: usize = 128 * 1024 * 1024;

/// What the listings that are being made take, in bytes.
static SPENT: AtomicUsize = AtomicUsize::new(0);

/// What one listing takes.
#[derive(Default)]
struct Spending(usize);

impl Spending {
    fn add(&mut self, bytes: usize) -> io::Result<()> {
        self.0 += bytes;
        let by_all = SPENT.fetch_add(bytes, Ordering::Relaxed) + bytes;
        match self.0 > MAX_LISTING || by_all > MAX_LISTINGS {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(()),
        }
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        SPENT.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Lists what is below `root`; depth 1 is its direct children. Entries that vanish meanwhile are left out.
pub fn list(root: &str, depth: u32, users: &Users) -> Result<Vec<Entry>> {
    let real = std::fs::canonicalize(root).map_err(|error| cannot_list(root, error))?;
    if !rustix::fs::stat(&real)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    {
        return Err(Error::Invalid(format!("path is not a directory: {root}")));
    }
    let mut spending = Spending::default();
    let names = read_names(&real, &mut spending).map_err(|error| cannot_list(root, error))?;
    let mut levels = vec![Level { real, shown: root.to_owned(), names }];
    let mut entries = Vec::new();
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        let path = level.real.join(&name);
        let shown = join(&level.shown, &name.to_string_lossy());
        let Ok(stat) = rustix::fs::lstat(&path) else { continue };
        let entry = Entry::from_stat(&path, shown, &stat, users);
        spending.add(entry.weight()).map_err(|error| cannot_list(root, error))?;
        let descend = FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && u32::try_from(levels.len()).is_ok_and(|level| level < depth);
        if descend {
            match read_names(&path, &mut spending) {
                Ok(names) => levels.push(Level { real: path, shown: entry.path.clone(), names }),
                Err(error) if vanished(&error) => {}
                Err(error) => return Err(cannot_list(root, error)),
            }
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// A directory on the way down, with the names in it that are yet to be visited.
struct Level {
    real: PathBuf,
    shown: String,
    names: vec::IntoIter<OsString>,
}

fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

fn read_names(directory: &Path, spending: &mut Spending) -> io::Result<vec::IntoIter<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        spending.add(name.len() + size_of::<OsString>())?;
        names.push(name);
    }
    names.sort_unstable();
    Ok(names.into_iter())
}

fn vanished(error: &io::Error) -> bool {
    // Too deep for a path to reach is as good as gone.
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)
    )
}

fn cannot_list(root: &str, error: io::Error) -> Error {
    if error.raw_os_error().is_none() && error.kind() == io::ErrorKind::FileTooLarge {
        let limit = MAX_LISTING >> 20;
        return Error::TooMuch(format!(
            "listing of {root} takes more than {limit} MiB: ask for a smaller depth or a directory below"
        ));
    }
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => Error::NotFound(format!("directory not found: {root}")),
        Some(Errno::NOTDIR) => Error::Invalid(format!("path is not a directory: {root}")),
        Some(Errno::LOOP) => {
            Error::Precondition(format!("too many levels of symbolic links: {root}"))
        }
        _ => Error::io(format!("error reading directory {root}"), error),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn names(root: &Path, depth: u32) -> Vec<String> {
        let prefix = format!("{}/", root.display());
        list(root.to_str().unwrap(), depth, &Users::parse(b"", b""))
            .unwrap()
            .into_iter()
            .map(|entry| entry.path.strip_prefix(&prefix).unwrap().to_owned())
            .collect()
    }

    #[test]
    fn walks_in_byte_order_down_to_the_depth() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("b/c/d")).unwrap();
        for file in ["a.txt", "b/x", "b/c/y", "b-a", "Z"] {
            fs::write(root.join(file), "").unwrap();
        }
        symlink("b", root.join("link")).unwrap();
        assert_eq!(names(root, 1), ["Z", "a.txt", "b", "b-a", "link"]);
        assert_eq!(
            names(root, 2),
            ["Z", "a.txt", "b", "b/c", "b/x", "b-a", "link"],
            "children follow their parent, links are not entered"
        );
        assert_eq!(names(root, u32::MAX).len(), 9);
        assert_eq!(names(&root.join("link"), 1), ["c", "x"], "the root itself may be a link");
    }

    #[test]
    fn says_why_there_is_no_listing() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
        let users = Users::parse(b"", b"");
        fs::write(path("file"), "").unwrap();
        symlink("loop", path("loop")).unwrap();
        assert!(matches!(list(&path("none"), 1, &users), Err(Error::NotFound(_))));
        assert!(matches!(list(&path("file"), 1, &users), Err(Error::Invalid(_))));
        assert!(matches!(list(&path("loop"), 1, &users), Err(Error::Precondition(_))));
    }

    #[test]
    fn a_name_that_is_not_text_does_not_spoil_the_listing() {
        use std::os::unix::ffi::OsStrExt;
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"bad-\xff")), "").unwrap();
        fs::write(root.path().join("good"), "").unwrap();
        assert_eq!(names(root.path(), 1), ["bad-\u{fffd}", "good"]);
    }
}
