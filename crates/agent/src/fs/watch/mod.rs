//! Watching directories with inotify.
//!
//! A [`Watcher`] is one inotify descriptor with what it has seen and nobody has fetched yet. Reading
//! the descriptor ([`Watcher::drain`]) is synchronous and may happen from anywhere: from the task
//! that follows a watcher, from a client that polls, and from whoever just made a directory below
//! it, so that what happens in there next is not missed. It touches the disk: call it on a
//! blocking thread.

mod registry;
mod tree;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::{
    fs::{
        FileType,
        inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    },
    io::Errno,
};
use tokio::sync::Notify;

pub use self::registry::{Follow, Watchers};
use self::tree::Tree;
use super::{
    entry::Entry,
    error::{Error, Result},
};
use crate::users::Users;

/// How much one watcher keeps for its client, in bytes.
const MAX_QUEUE: usize = 16 * 1024 * 1024;
/// How much all watchers together keep, in bytes.
const MAX_QUEUES: usize = 64 * 1024 * 1024;
/// How many events one call of [`Watcher::drain`] reads, so that it ends under a flood: as many as
/// the kernel queues.
const MAX_DRAIN: usize = 16 * 1024;
const READ_BUFFER: usize = 16 * 1024;

/// Just these: others (open, close) would be further events for an upload, which clients count.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ATTRIB);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Create,
    /// Has a new name, which shows as a [`Change::Create`] if it is watched too.
    Rename,
    Chmod,
    Write,
    Remove,
}

impl Change {
    /// One event of the kernel may carry several flags; they are told in this order.
    const ORDER: [(ReadFlags, Self); 5] = [
        (ReadFlags::CREATE.union(ReadFlags::MOVED_TO), Self::Create),
        (ReadFlags::MOVED_FROM.union(ReadFlags::MOVE_SELF), Self::Rename),
        (ReadFlags::ATTRIB, Self::Chmod),
        (ReadFlags::MODIFY, Self::Write),
        (ReadFlags::DELETE.union(ReadFlags::DELETE_SELF), Self::Remove),
    ];

    fn leaves_something(self) -> bool {
        matches!(self, Self::Create | Self::Chmod | Self::Write)
    }
}

#[derive(Debug, Clone)]
pub struct Event {
    /// Relative to the watched directory; `.` is that directory.
    pub name: String,
    pub change: Change,
    /// What the name led to when the event was read, if that was asked for.
    pub entry: Option<Entry>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    pub recursive: bool,
    pub include_entry: bool,
    pub allow_network_mounts: bool,
}

/// One watched directory.
#[derive(Debug)]
pub struct Watcher {
    inotify: Arc<OwnedFd>,
    root: PathBuf,
    options: Options,
    seen: Mutex<Seen>,
    /// Told whenever there is something to fetch.
    news: Notify,
    kept_by_all: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Seen {
    tree: Tree,
    /// Directories that moved out of sight and may come back in the next events, by cookie.
    moving: HashMap<u32, Moving>,
    /// Told as found in a new directory: their own event is still in the descriptor.
    announced: HashSet<String>,
    queue: VecDeque<Event>,
    bytes: usize,
    failed: Option<String>,
}

#[derive(Debug)]
struct Moving {
    from: String,
    /// Whether it was missing at the end of a drain already.
    overdue: bool,
}

impl Watcher {
    /// Watches the directory at `root`. Nothing that is there already is an event.
    fn open(root: &str, options: Options, kept_by_all: Arc<AtomicUsize>) -> Result<Self> {
        let path = PathBuf::from(root);
        let stat = rustix::fs::stat(&path).map_err(|error| match error {
            Errno::NOENT => Error::NotFound(format!("path {root} not found")),
            error => Error::io(format!("error statting path {root}"), error),
        })?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Error::Invalid(format!("path {root} not a directory")));
        }
        if !options.allow_network_mounts && is_on_network(&path)? {
            return Err(Error::Invalid(format!("cannot watch path on network filesystem: {root}")));
        }
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(|error| cannot_watch(root, error))?;
        let watcher = Self {
            inotify: Arc::new(inotify),
            root: path,
            options,
            seen: Mutex::default(),
            news: Notify::new(),
            kept_by_all,
        };
        {
            let mut seen = watcher.seen.lock();
            let watch = inotify::add_watch(&watcher.inotify, root, EVENTS | WatchFlags::ONLYDIR)
                .map_err(|error| cannot_watch(root, error))?;
            seen.tree.insert(watch, String::new());
            if options.recursive {
                watcher.watch_children(&mut seen, String::new(), None);
                if let Some(failed) = seen.failed.take() {
                    return Err(Error::Internal(failed));
                }
            }
        }
        Ok(watcher)
    }

    /// Reads what the kernel has, without waiting; says whether it may have more.
    pub fn drain(&self) -> bool {
        self.drain_about(MAX_DRAIN)
    }

    /// As [`Self::drain`], and ends after `most` events and those that came with the last of them.
    fn drain_about(&self, most: usize) -> bool {
        let mut seen = self.seen.lock();
        if seen.failed.is_some() {
            return false;
        }
        let users = self.options.include_entry.then(Users::load);
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); READ_BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let (mut read, mut more) = (0, true);
        // What is in the buffer is in the kernel no more.
        while read < most || !reader.is_buffer_empty() {
            match reader.next() {
                Ok(event) => {
                    read += 1;
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                    let raw = Raw {
                        watch: event.wd(),
                        flags: event.events(),
                        cookie: event.cookie(),
                        name,
                    };
                    self.digest(&mut seen, raw, users.as_ref());
                }
                Err(Errno::AGAIN) => {
                    seen.announced.clear();
                    self.forget_moved_away(&mut seen);
                    more = false;
                    break;
                }
                Err(Errno::INTR) => {}
                Err(error) => seen.fail(format!("error reading inotify events: {error}")),
            }
            if seen.failed.is_some() {
                more = false;
                break;
            }
        }
        if !seen.queue.is_empty() || seen.failed.is_some() {
            self.news.notify_one();
        }
        more
    }

    /// Takes everything that was read. A failed watcher fails every time.
    pub fn take(&self) -> Result<VecDeque<Event>> {
        let mut seen = self.seen.lock();
        if let Some(failed) = &seen.failed {
            return Err(Error::Internal(failed.clone()));
        }
        self.kept_by_all.fetch_sub(seen.bytes, Ordering::Relaxed);
        seen.bytes = 0;
        Ok(std::mem::take(&mut seen.queue))
    }

    /// Waits until [`Self::take`] has something to give.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn digest(&self, seen: &mut Seen, raw: Raw, users: Option<&Users>) {
        if raw.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return seen
                .fail("watcher lost events: the kernel's queue of events overflowed".to_owned());
        }
        if raw.flags.contains(ReadFlags::IGNORED) {
            return seen.tree.remove(raw.watch);
        }
        let Some(directory) = seen.tree.path(raw.watch) else { return };
        let is_root = directory.is_empty();
        let Some(name) = raw.name else {
            // About a watched directory itself. Of a subdirectory its parent tells.
            if is_root {
                let flags = match self.options.recursive {
                    true => raw.flags - ReadFlags::MOVE_SELF,
                    false => raw.flags,
                };
                self.tell(seen, ".", flags, users);
            }
            return;
        };
        let path = join(directory, &name);
        let is_tree = self.options.recursive && raw.flags.contains(ReadFlags::ISDIR);
        if is_tree && raw.flags.contains(ReadFlags::MOVED_FROM) {
            seen.moving.insert(raw.cookie, Moving { from: path.clone(), overdue: false });
        }
        let appeared = raw.flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        if raw.flags.contains(ReadFlags::DELETE) {
            seen.announced.remove(&path);
        }
        if !(appeared && seen.announced.remove(&path)) {
            self.tell(seen, &path, raw.flags, users);
        }
        if is_tree && appeared {
            match seen.moving.remove(&raw.cookie) {
                Some(moved) if raw.flags.contains(ReadFlags::MOVED_TO) => {
                    seen.tree.rename(&moved.from, &path);
                }
                _ => self.watch_new(seen, path, users),
            }
        }
    }

    fn tell(&self, seen: &mut Seen, name: &str, flags: ReadFlags, users: Option<&Users>) {
        for (bits, change) in Change::ORDER {
            if flags.intersects(bits) {
                self.push(seen, name, change, users);
            }
        }
    }

    fn push(&self, seen: &mut Seen, name: &str, change: Change, users: Option<&Users>) {
        let entry = users.filter(|_| change.leaves_something()).and_then(|users| {
            let path = if name == "." { self.root.clone() } else { self.root.join(name) };
            let shown = path.to_string_lossy().into_owned();
            Entry::read(&path, shown, users).ok()
        });
        let event = Event { name: name.to_owned(), change, entry };
        let bytes = event.weight();
        let kept = self.kept_by_all.fetch_add(bytes, Ordering::Relaxed) + bytes;
        seen.bytes += bytes;
        seen.queue.push_back(event);
        if seen.bytes > MAX_QUEUE || kept > MAX_QUEUES {
            seen.fail("watcher lost events: too many were not fetched".to_owned());
            self.kept_by_all.fetch_sub(std::mem::take(&mut seen.bytes), Ordering::Relaxed);
            seen.queue = VecDeque::new();
        }
    }

    /// Watches a directory that appeared, and tells what is in it already.
    fn watch_new(&self, seen: &mut Seen, directory: String, users: Option<&Users>) {
        if self.watch_one(seen, &directory) {
            self.watch_children(seen, directory, Some(users));
        }
    }

    /// Watches every directory below a watched one; with `tell`, its entries are new and told.
    fn watch_children(&self, seen: &mut Seen, directory: String, tell: Option<Option<&Users>>) {
        let mut directories = vec![directory];
        while let Some(directory) = directories.pop() {
            let Ok(entries) = std::fs::read_dir(self.root.join(&directory)) else { continue };
            for entry in entries.filter_map(std::result::Result::ok) {
                let path = join(&directory, &entry.file_name().to_string_lossy());
                if let Some(users) = tell {
                    self.push(seen, &path, Change::Create, users);
                    seen.announced.insert(path.clone());
                }
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory && self.watch_one(seen, &path) {
                    directories.push(path);
                }
                if seen.failed.is_some() {
                    return;
                }
            }
        }
    }

    /// Says whether the directory is there and was not watched yet.
    fn watch_one(&self, seen: &mut Seen, directory: &str) -> bool {
        let path = self.root.join(directory);
        let flags = EVENTS | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(&self.inotify, &path, flags) {
            Ok(watch) => seen.tree.insert(watch, directory.to_owned()),
            Err(error @ (Errno::NOSPC | Errno::NOMEM)) => {
                seen.fail(cannot_watch(directory, error).to_string());
                false
            }
            // Gone again, replaced, or too deep for a path.
            Err(_) => false,
        }
    }

    /// Stops watching what was moved out of the tree: the other half of a move follows at once.
    fn forget_moved_away(&self, seen: &mut Seen) {
        let gone: Vec<u32> =
            seen.moving.iter().filter(|(_, moved)| moved.overdue).map(|(key, _)| *key).collect();
        for cookie in gone {
            let Some(moved) = seen.moving.remove(&cookie) else { continue };
            for watch in seen.tree.remove_below(&moved.from) {
                // Fails if the directory was deleted meanwhile.
                let _ = inotify::remove_watch(&self.inotify, watch);
            }
        }
        for moved in seen.moving.values_mut() {
            moved.overdue = true;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The kernel waits for readers of its lists when the descriptor is closed: milliseconds.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inotify = Arc::clone(&self.inotify);
            runtime.spawn_blocking(move || drop(inotify));
        }
        self.kept_by_all.fetch_sub(self.seen.get_mut().bytes, Ordering::Relaxed);
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}

impl Seen {
    fn fail(&mut self, reason: String) {
        self.failed.get_or_insert(reason);
    }
}

impl Event {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.entry.as_ref().map_or(0, Entry::weight)
    }
}

/// An event as the kernel tells it.
struct Raw {
    watch: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Option<String>,
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn cannot_watch(path: &str, error: Errno) -> Error {
    let why = match error {
        Errno::NOSPC => "fs.inotify.max_user_watches is reached".to_owned(),
        Errno::MFILE => "fs.inotify.max_user_instances is reached".to_owned(),
        error => error.to_string(),
    };
    Error::Internal(format!("error watching {path}: {why}"))
}

/// Changes made elsewhere are invisible to inotify, so watching such a mount would mislead.
fn is_on_network(path: &Path) -> Result<bool> {
    const NFS: u64 = 0x6969;
    const CIFS: u64 = 0xff53_4d42;
    const SMB: u64 = 0x517b;
    const SMB2: u64 = 0xfe53_4d42;
    const FUSE: u64 = 0x6573_5546;
    let statfs = rustix::fs::statfs(path)
        .map_err(|error| Error::io(format!("error statting {}", path.display()), error))?;
    let magic = statfs.f_type.cast_unsigned() & 0xffff_ffff;
    Ok([NFS, CIFS, SMB, SMB2, FUSE].contains(&magic))
}

#[cfg(test)]
mod tests;
