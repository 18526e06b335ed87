//! Up to where the inode numbers of layers of templates go.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, openat};
use soulbox_sys::btrfs::{self, Access};

use crate::at::at;

/// The copy of a layer in which the next number is looked at.
const PROBE: &str = "probe";

#[derive(Debug)]
pub(super) struct Numbers {
    store: PathBuf,
    /// By the directory of the layer; also held while there is a [`PROBE`].
    known: Mutex<HashMap<PathBuf, u64>>,
}

impl Numbers {
    pub(super) fn new(store: &Path) -> Self {
        Self { store: store.to_owned(), known: Mutex::default() }
    }

    /// A number that nothing in these layers is above.
    pub(super) fn highest(&self, layers: &[PathBuf]) -> io::Result<u64> {
        let mut known = self.known.lock();
        let mut highest = 0;
        for layer in layers {
            let number = match known.get(layer) {
                Some(number) => *number,
                None => {
                    let number = self.find(layer).map_err(|error| at(layer, error))?;
                    known.insert(layer.clone(), number);
                    number
                }
            };
            highest = highest.max(number);
        }
        Ok(highest)
    }

    /// The same of one layer that will have another name.
    pub(super) fn look(&self, layer: &Path) -> io::Result<u64> {
        let _known = self.known.lock();
        self.find(layer)
    }

    /// Layers in `dir` go away; others may come there.
    pub(super) fn forget(&self, dir: &Path) {
        self.known.lock().retain(|layer, _| !layer.starts_with(dir));
    }

    fn find(&self, layer: &Path) -> io::Result<u64> {
        let root = match subvolume_of(layer)? {
            Some(root) if !self.store.starts_with(&root) => File::open(root)?,
            // With other things of the server's, so its own numbers are somewhat lower.
            _ => return next(File::open(self.store.join("layers"))?.as_fd()),
        };
        let dir = File::open(&self.store)?;
        remove(dir.as_fd())?;
        // The next number in one that was just made follows from the highest that is still in use.
        match btrfs::snapshot(root.as_fd(), dir.as_fd(), PROBE, Access::ReadWrite) {
            // Of another file system, which overlayfs tells apart.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Ok(0),
            done => done?,
        }
        let number = File::open(self.store.join(PROBE)).and_then(|probe| next(probe.as_fd()));
        remove(dir.as_fd())?;
        number
    }
}

fn remove(dir: BorrowedFd<'_>) -> io::Result<()> {
    match btrfs::delete_subvolume(dir, PROBE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The root of the subvolume that `path` lies in, if it is one; the caller's own path.
fn subvolume_of(path: &Path) -> io::Result<Option<PathBuf>> {
    for above in path.ancestors() {
        if fs::symlink_metadata(above)?.ino() == btrfs::ROOT_DIR {
            return Ok(Some(above.to_owned()));
        }
    }
    Ok(None)
}

/// The number of what would be made next in the subvolume of `dir`.
fn next(dir: BorrowedFd<'_>) -> io::Result<u64> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(dir, ".", flags, Mode::from(0o600))?;
    Ok(rustix::fs::fstat(&file)?.st_ino)
}
