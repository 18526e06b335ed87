//! Learns from the kernel when a file changes that an answer came from.

use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::tree;

/// Which watch belongs to which answer.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: OwnedFd,
    /// A directory may be part of several projects.
    owners: HashMap<i32, Vec<u64>>,
    lost: bool,
}

impl Watches {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, owners: HashMap::new(), lost: false })
    }

    /// Watches a directory for the answer `owner`.
    pub(super) fn add(&mut self, folder: BorrowedFd<'_>, owner: u64) -> io::Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        // The descriptor, not the path: what was listed is what is watched.
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let watch = inotify::add_watch(&self.inotify, path, flags)?;
        let owners = self.owners.entry(watch).or_default();
        if !owners.contains(&owner) {
            owners.push(owner);
        }
        Ok(())
    }

    /// Forgets an answer, and the watches that were its alone.
    pub(super) fn forget(&mut self, owner: u64) {
        let inotify = &self.inotify;
        self.owners.retain(|watch, owners| {
            owners.retain(|other| *other != owner);
            if owners.is_empty() {
                // A directory that is gone took its watch along.
                let _ = inotify::remove_watch(inotify, *watch);
            }
            !owners.is_empty()
        });
    }

    /// The answers that may no longer hold; none for all of them.
    pub(super) fn changed(&mut self) -> Option<Vec<u64>> {
        let mut changed = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        // One at a time until nothing is left: a read that would wait is an error.
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.lost = true;
            }
            let name = event.file_name().map(|name| name.to_string_lossy());
            let itself = flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF);
            let matters = match name.as_deref() {
                None => itself,
                Some(name) if flags.contains(ReadFlags::ISDIR) => tree::enters(name),
                Some(name) => tree::matters(name),
            };
            if matters && let Some(owners) = self.owners.get(&event.wd()) {
                changed.extend(owners);
            }
        }
        if std::mem::take(&mut self.lost) { None } else { Some(changed) }
    }
}
