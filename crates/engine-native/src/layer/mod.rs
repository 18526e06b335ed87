//! Writable layers: the private part of a sandbox's root file system, with a hard size limit.
//!
//! [`open`] chooses the store by a probe: btrfs with quotas on a loop image that the server owns, or
//! memory (tmpfs) where the kernel lacks those.

mod btrfs;
mod copy;
mod image;
mod numbers;
mod spare;
mod tmpfs;

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use soulbox_model::SandboxId;

/// A new, empty layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Detached mount, not idmapped yet, of a directory that holds `upper` and `work`.
    pub(crate) mount: OwnedFd,
    pub(crate) ids: Ids,
    /// The inode numbers of what is made in it are higher.
    pub(crate) above: u64,
}

/// What the owners of a layer's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// 0 to 65535; the mount must be idmapped.
    FromZero,
    /// Those of the one sandbox that ever uses it: for file systems that cannot be idmapped.
    Own,
}

pub(crate) const UPPER: &str = "upper";
pub(crate) const WORK: &str = "work";

/// Where writable layers live.
pub(crate) trait Layers: Send + Sync + std::fmt::Debug {
    fn name(&self) -> &'static str;

    /// The block device that layers lie on, if they lie on one.
    fn device(&self) -> Option<PathBuf> {
        None
    }

    /// Whether a sandbox may be made, after mending what can be mended. May block.
    ///
    /// # Errors
    /// What is wrong with the store, and what to do about it.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    /// Makes the layer of a sandbox, limited to `bytes`.
    fn create(&self, id: &SandboxId, bytes: u64) -> io::Result<Layer>;

    /// Whether nothing that is made in `layer` has the inode number of something in the layers `below`. If
    /// not, a layer that is made now will do. May take seconds the first time that it is asked of those.
    fn is_beyond(&self, _layer: &Layer, _below: &[PathBuf]) -> io::Result<bool> {
        Ok(true)
    }

    /// Forgets what is known of the layers in `dir`, which goes away.
    fn forget(&self, _dir: &Path) {}

    /// Bytes in use.
    fn usage(&self, id: &SandboxId) -> io::Result<u64>;

    /// Keeps the layer of a sandbox whose processes are dead, and whose ids began with `first_id`, as
    /// the directory `into`, with ids from 0. Returns how many bytes it holds.
    fn freeze(&self, id: &SandboxId, first_id: u32, into: &Path) -> io::Result<u64>;

    /// Deletes a layer; success if there is none.
    fn delete(&self, id: &SandboxId) -> io::Result<()>;

    /// The layers that exist, from an earlier run too.
    fn ids(&self) -> io::Result<Vec<SandboxId>>;

    /// Makes nothing ahead any more. Blocks until what is being made is done.
    fn close(&self) {}
}

/// Opens the store below `data_dir`, mounted at `data_dir/store`; makes it at the first start.
///
/// # Errors
/// What the kernel reports; a kernel without btrfs or its quotas is no error.
pub(crate) fn open(data_dir: &Path) -> io::Result<Box<dyn Layers>> {
    match btrfs::Btrfs::open(data_dir) {
        Ok(store) => Ok(Box::new(store)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!(%error, "sandboxes write to memory: no btrfs store on this machine");
            Ok(Box::new(tmpfs::Tmpfs::default()))
        }
        Err(error) => Err(error),
    }
}

/// Unmounts the store if nothing uses it.
pub(crate) fn close(data_dir: &Path) {
    let _ = rustix::mount::unmount(data_dir.join("store"), rustix::mount::UnmountFlags::DETACH);
}

/// Makes the two directories that overlayfs needs.
fn furnish(layer: BorrowedFd<'_>) -> io::Result<()> {
    for (name, mode) in [(UPPER, 0o755), (WORK, 0o700)] {
        rustix::fs::mkdirat(layer, name, mode.into())?;
    }
    Ok(())
}
