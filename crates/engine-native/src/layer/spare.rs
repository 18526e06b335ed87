//! Subvolumes made ahead, in which inode numbers begin beyond those of templates.
//!
//! The subvolumes of a btrfs are one file system to overlayfs, so it shows their inode numbers as they are,
//! yet each counts for itself: a file of a template and one in the writable layer could be the same one to
//! programs that compare numbers. The next number of a subvolume follows from the highest in it, and a
//! snapshot keeps that. So layers are snapshots of a *seed* with one file, its mark, whose number is beyond
//! those of every template so far; more were used up by making files. What is frozen of such a layer
//! lies beyond its parents, and the mark is then moved beyond it.
//!
//! A snapshot waits for a commit of the file system, which takes milliseconds; those that are taken at the same
//! time share it. Hence many are made at once, and ahead.

use std::{
    fs::{DirBuilder, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use parking_lot::{Condvar, Mutex};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, statat, unlinkat},
    io::Errno,
};
use soulbox_sys::btrfs::{self, Access};

use super::{WORK, furnish};

const COUNT: usize = 16;
const SEED: &str = "seed";
/// Name of the spare subvolume in its place: a directory each, because the kernel makes one at a time in
/// a directory.
const LAYER: &str = "layer";
/// The file with the highest number.
const MARK: &str = "mark";
const NEXT_MARK: &str = "mark.next";
/// Numbers to leave out beyond what is asked for, so that what the server itself makes beside templates
/// does not move the mark again.
const SLACK: u64 = 1 << 10;
/// How many numbers to use up at most, at some 15 µs each: a template must not cost others their time.
const FURTHEST: u64 = 1 << 19;

/// The next layers, below a directory of their own in the store.
#[derive(Debug)]
pub(super) struct Spares {
    dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    /// Held by who moves the mark.
    raising: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<Spare>,
    /// Places of those that are being taken.
    moving: Vec<usize>,
    /// Somebody makes those that are missing.
    filling: bool,
    closed: bool,
    /// Where the mark is known to be; older spares are no use.
    mark: u64,
}

#[derive(Debug, Clone, Copy)]
struct Spare {
    place: usize,
    /// The number of its mark.
    above: u64,
}

impl State {
    fn missing(&self) -> Vec<usize> {
        let is_there = |place: usize| self.ready.iter().any(|spare| spare.place == place);
        (0..COUNT).filter(|place| !is_there(*place) && !self.moving.contains(place)).collect()
    }
}

impl Spares {
    pub(super) fn new(store: &Path) -> Self {
        Self {
            dir: store.join("spare"),
            state: Mutex::default(),
            changed: Condvar::new(),
            raising: Mutex::default(),
        }
    }

    /// Moves a spare to `name` in `to`, and says which number those in it are above.
    pub(super) fn take(self: &Arc<Self>, to: BorrowedFd<'_>, name: &str) -> io::Result<u64> {
        let spare = self.next()?;
        let moved = renameat(CWD, self.place(spare.place).join(LAYER), to, name);
        self.state.lock().moving.retain(|place| *place != spare.place);
        moved?;
        Ok(spare.above)
    }

    fn next(self: &Arc<Self>) -> io::Result<Spare> {
        let mut state = self.state.lock();
        loop {
            if let Some(spare) = state.ready.pop() {
                state.moving.push(spare.place);
                let low = state.ready.len() <= COUNT / 2;
                drop(state);
                if low {
                    self.fill_beside();
                }
                return Ok(spare);
            }
            if state.filling {
                self.changed.wait(&mut state);
                continue;
            }
            state.filling = true;
            drop(state);
            self.fill()?;
            state = self.state.lock();
        }
    }

    /// Makes those that are missing, by a thread of its own.
    pub(super) fn fill_beside(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.filling || state.closed {
            return;
        }
        state.filling = true;
        drop(state);
        let spares = Arc::clone(self);
        let filler = thread::Builder::new().name("spares".into()).spawn(move || {
            if let Err(error) = spares.fill() {
                tracing::warn!(%error, "no layers can be made ahead");
            }
        });
        if filler.is_err() {
            self.filled(Vec::new());
        }
    }

    /// For who set `filling`, which ends with it.
    fn fill(&self) -> io::Result<()> {
        let missing = self.state.lock().missing();
        let (made, failed) = match self.make(&missing) {
            Ok(made) => made,
            Err(error) => (Vec::new(), Some(error)),
        };
        let none = made.is_empty();
        self.filled(made);
        match failed {
            Some(error) if none => Err(error),
            _ => Ok(()),
        }
    }

    fn filled(&self, made: Vec<Spare>) {
        let mut state = self.state.lock();
        state.filling = false;
        let mark = state.mark;
        state.ready.extend(made.into_iter().filter(|spare| spare.above >= mark));
        self.changed.notify_all();
    }

    /// Those that could be made, and why one could not.
    fn make(&self, places: &[usize]) -> io::Result<(Vec<Spare>, Option<io::Error>)> {
        let seed = self.seed()?;
        let mark = mark_of(seed.as_fd(), MARK)?.ok_or(io::ErrorKind::NotFound)?;
        let one = |place: &usize| self.make_one(*place, seed.as_fd(), mark);
        let made: Vec<io::Result<Spare>> = thread::scope(|scope| {
            let makers: Vec<_> =
                places.iter().map(|place| scope.spawn(move || one(place))).collect();
            makers.into_iter().filter_map(|maker| maker.join().ok()).collect()
        });
        let mut failed = None;
        let made = made.into_iter().filter_map(|spare| spare.map_err(|e| failed = Some(e)).ok());
        let made = made.collect();
        Ok((made, failed))
    }

    fn make_one(&self, place: usize, seed: BorrowedFd<'_>, mark: u64) -> io::Result<Spare> {
        let path = self.place(place);
        make_dir(&path)?;
        let dir = File::open(&path)?;
        // An earlier server's, if it is complete.
        if mark_of(dir.as_fd(), &format!("{LAYER}/{WORK}"))?.is_some() {
            let above = mark_of(dir.as_fd(), &format!("{LAYER}/{MARK}"))?;
            if let Some(above) = above.filter(|above| *above >= mark) {
                return Ok(Spare { place, above });
            }
        }
        match btrfs::delete_subvolume(dir.as_fd(), LAYER) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        btrfs::snapshot(seed, dir.as_fd(), LAYER, Access::ReadWrite)?;
        let layer = File::open(path.join(LAYER))?;
        furnish(layer.as_fd())?;
        // The seed's may have moved meanwhile.
        let above = mark_of(layer.as_fd(), MARK)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Spare { place, above })
    }

    /// Has later layers begin beyond `highest`; `false` if that is too far away.
    pub(super) fn raise(self: &Arc<Self>, highest: u64) -> io::Result<bool> {
        let _raising = self.raising.lock();
        let seed = self.seed()?;
        let mark = mark_of(seed.as_fd(), MARK)?.unwrap_or_default();
        if mark < highest {
            if highest - mark > FURTHEST {
                tracing::warn!(
                    mark,
                    highest,
                    "too many inode numbers to leave out: some files of its sandboxes share theirs"
                );
                return Ok(false);
            }
            move_mark(seed.as_fd(), highest + SLACK)?;
        }
        let mark = mark_of(seed.as_fd(), MARK)?.ok_or(io::ErrorKind::NotFound)?;
        let mut state = self.state.lock();
        state.mark = mark;
        state.ready.retain(|spare| spare.above >= mark);
        drop(state);
        self.fill_beside();
        Ok(true)
    }

    /// Makes no more, and waits until those in the making are done.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        while state.filling {
            self.changed.wait(&mut state);
        }
    }

    fn place(&self, place: usize) -> PathBuf {
        self.dir.join(place.to_string())
    }

    /// The seed, made at the first start.
    fn seed(&self) -> io::Result<OwnedFd> {
        make_dir(&self.dir)?;
        let dir = File::open(&self.dir)?;
        match btrfs::create_subvolume(dir.as_fd(), SEED) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let seed: OwnedFd = File::open(self.dir.join(SEED))?.into();
        if mark_of(seed.as_fd(), MARK)?.is_none() {
            move_mark(seed.as_fd(), 0)?;
        }
        Ok(seed)
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The number of a file, if there is one.
fn mark_of(dir: BorrowedFd<'_>, name: &str) -> io::Result<Option<u64>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat.st_ino)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Gives the mark a number that is not below `to`. There is one at any time, the old one or the new one.
fn move_mark(seed: BorrowedFd<'_>, to: u64) -> io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    loop {
        let file = openat(seed, ".", flags, Mode::from(0o600))?;
        if rustix::fs::fstat(&file)?.st_ino < to {
            continue;
        }
        match unlinkat(seed, NEXT_MARK, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => return Err(error.into()),
            _ => {}
        }
        linkat(&file, "", seed, NEXT_MARK, AtFlags::EMPTY_PATH)?;
        return Ok(renameat(seed, NEXT_MARK, seed, MARK)?);
    }
}
