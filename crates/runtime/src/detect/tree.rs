//! The files of a directory that rules may ask for: listed once, bounded, without following links.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    ffi::CStr,
    fs::File,
    io::{self, Read as _},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    rc::Rc,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, fstat, openat, openat2, statat,
    },
    io::Errno,
};

/// Directory entries that are looked at; what lies beyond is not.
pub const MAX_ENTRIES: usize = 100_000;
/// Levels below the directory.
pub const MAX_DEPTH: usize = 6;
const MAX_DIRECTORIES: usize = 4_000;
/// Sources that are kept of one directory, besides those that programs begin with.
const MAX_SOURCES: usize = 1_000;
/// Bytes that are read of all files together.
const MAX_READ: usize = 8 * 1024 * 1024;

/// Directories that hold what was installed or built, not what was written.
const SKIPPED: [&str; 18] = [
    "node_modules",
    "bower_components",
    "target",
    "dist",
    "build",
    "out",
    "venv",
    "env",
    "__pycache__",
    "site-packages",
    "vendor",
    "coverage",
    "jspm_packages",
    "htmlcov",
    "wheels",
    "eggs",
    "tmp",
    "logs",
];

/// Whether a rule may ask for a file of this name.
pub(super) fn matters(name: &str) -> bool {
    is_manifest(name) || is_source(name)
}

/// Whether a name says something by itself.
pub(super) fn is_manifest(name: &str) -> bool {
    match name.as_bytes() {
        // Most files of a project are none: the first letter says so at once.
        [b'b' | b'd' | b'p' | b'P' | b'u' | b's' | b'w' | b'v' | b'i' | b'.' | b'm' | b'r', ..] => {
        }
        _ => return false,
    }
    matches!(
        name,
        "package.json"
            | "bun.lock"
            | "bun.lockb"
            | "bunfig.toml"
            | "deno.json"
            | "deno.jsonc"
            | "deno.lock"
            | "pyproject.toml"
            | "Pipfile"
            | "uv.lock"
            | "setup.py"
            | "wrangler.toml"
            | "wrangler.json"
            | "wrangler.jsonc"
            | "vercel.json"
            | "index.html"
            | ".python-version"
            | ".nvmrc"
            | ".node-version"
            | ".dvmrc"
            | "manage.py"
    ) || (name.starts_with("requirements") && name.ends_with(".txt"))
}

fn is_source(name: &str) -> bool {
    let Some(dot) = name.rfind('.').filter(|dot| *dot > 0) else { return false };
    matches!(
        &name[dot..],
        ".py" | ".js" | ".mjs" | ".cjs" | ".jsx" | ".ts" | ".mts" | ".cts" | ".tsx" | ".html"
    )
}

/// Whether rules ask for a source by this name.
fn is_entry(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    matches!(
        stem,
        "app"
            | "main"
            | "server"
            | "index"
            | "mod"
            | "wsgi"
            | "asgi"
            | "middleware"
            | "route"
            | "page"
            | "layout"
    )
}

/// Whether a directory of this name is looked into.
pub(super) fn enters(name: &str) -> bool {
    !name.starts_with('.') && !SKIPPED.contains(&name)
}

/// A directory as it was found.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// By path relative to the root, which is "".
    folders: HashMap<String, Vec<String>>,
    read: RefCell<Reads>,
    pub truncated: bool,
}

/// What was read, and what could not be.
#[derive(Debug, Default)]
struct Reads {
    texts: HashMap<String, Option<Rc<str>>>,
    outside: Vec<String>,
    bytes: usize,
}

impl Tree {
    /// Lists `directory`; `enter` sees every directory before it is listed.
    pub(super) fn read(
        directory: &Path,
        enter: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> io::Result<Self> {
        Self::read_some(directory, enter, MAX_ENTRIES)
    }

    fn read_some(
        directory: &Path,
        enter: &mut dyn FnMut(BorrowedFd<'_>),
        entries: usize,
    ) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, directory, flags, Mode::empty())?;
        let mut tree =
            Self { root, folders: HashMap::new(), read: RefCell::default(), truncated: false };
        tree.walk(enter, entries)?;
        Ok(tree)
    }

    fn walk(&mut self, enter: &mut dyn FnMut(BorrowedFd<'_>), mut left: usize) -> io::Result<()> {
        let mut waiting = VecDeque::from([(String::new(), 0)]);
        let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
        while let Some((path, depth)) = waiting.pop_front() {
            if self.folders.len() >= MAX_DIRECTORIES {
                self.truncated = true;
                break;
            }
            let opened = self.open_folder(&path);
            let folder = match opened {
                Ok(folder) => folder,
                Err(error) if path.is_empty() => return Err(error),
                // Gone meanwhile, or not ours to read.
                Err(_) => continue,
            };
            enter(folder.as_fd());
            let listed = match list(&folder, &mut buffer, &mut left) {
                Ok(listed) => listed,
                Err(error) if path.is_empty() => return Err(error),
                // Gone amid it.
                Err(_) => continue,
            };
            self.truncated |= listed.cut;
            if depth < MAX_DEPTH {
                let below = |name: String| (join(&path, &name), depth + 1);
                waiting.extend(listed.folders.into_iter().map(below));
            } else if !listed.folders.is_empty() {
                self.truncated = true;
            }
            self.folders.insert(path, listed.files);
            if left == 0 {
                self.truncated |= !waiting.is_empty();
                break;
            }
        }
        Ok(())
    }

    fn open_folder(&self, path: &str) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    /// Every directory that was listed, sorted.
    pub(super) fn folders(&self) -> Vec<&str> {
        let mut all: Vec<_> = self.folders.keys().map(String::as_str).collect();
        all.sort_unstable();
        all
    }

    /// Names of files in a directory, sorted, as far as [`matters`] says.
    pub(super) fn files(&self, folder: &str) -> &[String] {
        self.folders.get(folder).map_or(&[], Vec::as_slice)
    }

    /// Up to `limit` bytes of a file; none where it is no regular file in the directory, or enough was
    /// read already.
    pub(super) fn text(&self, path: &str, limit: usize) -> Option<Rc<str>> {
        if let Some(known) = self.read.borrow().texts.get(path) {
            return known.clone();
        }
        let text = self.open_file(path, limit).map(Rc::from);
        self.read.borrow_mut().texts.insert(path.to_owned(), text.clone());
        text
    }

    fn open_file(&self, path: &str, limit: usize) -> Option<String> {
        let mut reads = self.read.borrow_mut();
        let limit = limit.min(MAX_READ.saturating_sub(reads.bytes));
        // NONBLOCK: a pipe without a writer would hold us up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = match openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(file) => File::from(file),
            Err(Errno::XDEV) => {
                reads.outside.push(path.to_owned());
                return None;
            }
            Err(_) => return None,
        };
        if limit == 0 || !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(limit as u64).read_to_end(&mut bytes).ok()?;
        reads.bytes += bytes.len();
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether there is such a file, and it lies in the directory.
    pub(super) fn has(&self, folder: &str, name: &str) -> bool {
        self.files(folder).binary_search_by(|file| file.as_str().cmp(name)).is_ok()
            && !self.leads_out(&join(folder, name))
    }

    /// Whether `path` is a file in the directory, of any name and wherever it lies.
    pub(super) fn is_file(&self, path: &str) -> bool {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(&self.root, path, flags, Mode::empty(), resolve).and_then(fstat);
        found.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    fn leads_out(&self, path: &str) -> bool {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let out = openat2(&self.root, path, flags, Mode::empty(), resolve)
            .is_err_and(|error| error == Errno::XDEV);
        if out {
            self.read.borrow_mut().outside.push(path.to_owned());
        }
        out
    }

    pub(super) fn outside(&self) -> Vec<String> {
        let mut all = self.read.borrow().outside.clone();
        all.sort();
        all.dedup();
        all
    }
}

struct Listed {
    files: Vec<String>,
    folders: Vec<String>,
    cut: bool,
}

fn list(folder: &OwnedFd, buffer: &mut [MaybeUninit<u8>], left: &mut usize) -> io::Result<Listed> {
    let mut listed = Listed { files: Vec::new(), folders: Vec::new(), cut: false };
    let mut sources = 0;
    let mut entries = RawDir::new(folder, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if *left == 0 {
            listed.cut = true;
            break;
        }
        *left -= 1;
        let Ok(name) = entry.file_name().to_str() else { continue };
        match kind(folder, entry.file_type(), entry.file_name()) {
            FileType::Directory if name != "." && name != ".." && enters(name) => {
                listed.folders.push(name.to_owned());
            }
            FileType::RegularFile | FileType::Symlink if is_manifest(name) => {
                listed.files.push(name.to_owned());
            }
            FileType::RegularFile | FileType::Symlink if is_source(name) => {
                sources += 1;
                listed.files.push(name.to_owned());
            }
            _ => {}
        }
    }
    // In order before they are cut: the kernel lists them in any.
    listed.files.sort_unstable();
    if sources > MAX_SOURCES {
        let (all, mut room) = (listed.files.len(), MAX_SOURCES);
        listed.files.retain(|name| {
            let kept = is_manifest(name) || is_entry(name);
            kept || room.checked_sub(1).inspect(|left| room = *left).is_some()
        });
        listed.cut |= listed.files.len() < all;
    }
    listed.folders.sort_unstable();
    Ok(listed)
}

/// Some file systems leave the kind out of the listing.
fn kind(folder: &OwnedFd, listed: FileType, name: &CStr) -> FileType {
    if listed != FileType::Unknown {
        return listed;
    }
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        Err(_) => FileType::Unknown,
    }
}

pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

impl Tree {
    /// Files right in `places` below `folder` whose names do, by path.
    pub(super) fn sources(
        &self,
        folder: &str,
        places: &[&str],
        does: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut all = Vec::new();
        for below in places {
            let place = if below.is_empty() { folder.to_owned() } else { join(folder, below) };
            let names = self.files(&place).iter().filter(|name| does(name));
            all.extend(names.map(|name| join(&place, name)));
        }
        all
    }

    /// The same in `places` and everything below them but below "" itself; `does` sees the directory, too.
    pub(super) fn sources_below(
        &self,
        folder: &str,
        places: &[&str],
        does: impl Fn(&str, &str) -> bool,
    ) -> Vec<String> {
        let mut all = Vec::new();
        for below in places {
            let place = if below.is_empty() { folder.to_owned() } else { join(folder, below) };
            let inside = format!("{place}/");
            let mut folders: Vec<_> = self
                .folders
                .iter()
                .filter(|(path, _)| {
                    **path == place || (!below.is_empty() && path.starts_with(&inside))
                })
                .collect();
            folders.sort_unstable();
            for (path, names) in folders {
                let names = names.iter().filter(|name| does(path, name));
                all.extend(names.map(|name| join(path, name)));
            }
        }
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_that_still_wait_are_told() {
        let temp = tempfile::tempdir().unwrap();
        for folder in ["a", "b"] {
            fs::create_dir(temp.path().join(folder)).unwrap();
            fs::write(temp.path().join(folder).join("x.py"), "").unwrap();
        }
        // Two, three and three, with "." and "..".
        for (entries, truncated) in [(7, true), (9, true), (10, false)] {
            let tree = Tree::read_some(temp.path(), &mut |_| {}, entries).unwrap();
            assert_eq!(tree.truncated, truncated, "{entries}: {:?}", tree.folders);
        }
    }
}
