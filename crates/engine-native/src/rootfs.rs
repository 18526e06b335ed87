//! The root file system: shared read-only layers and a private writable one, joined by overlayfs.
//!
//! Layers on disk are idmapped mounts, so files keep the ids 0 to 65535 there while each sandbox sees
//! them as its own range. Nothing here looks up a path that a sandbox could have made: layers are
//! opened by the server's own paths, the private one before the sandbox exists.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, openat},
    mount::MountAttrFlags,
};
use soulbox_engine::{Rootfs, Without};
use soulbox_sys::mount::{self, Opt};

use crate::{
    at::at,
    layer::{Ids, Layer, UPPER, WORK},
    slots::Slot,
};

/// Detached mounts that make up a root file system.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) root: OwnedFd,
    /// Absolute path inside, and what to mount there.
    pub(crate) mounts: Vec<(String, OwnedFd)>,
    /// What the root was made from and does not need any more; slow to close, see [`crate::aside`].
    pub(crate) spent: Vec<OwnedFd>,
}

/// Gives `layer` to the id range of `slot`, and has `write` put its first files there.
pub(crate) fn prepare(
    layer: &Layer,
    slot: &Slot,
    write: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mount = layer.mount.as_fd();
    match layer.ids {
        // Before anything is written through it: a file that is open for writing would forbid the
        // change, and another thread's child may hold one open for the moment until it executes.
        Ids::FromZero => {
            let userns = slot.userns.as_fd();
            mount::set_attributes(mount, MountAttrFlags::empty(), Some(userns))?;
        }
        Ids::Own => give(mount, slot.first_id)?,
    }
    mount::with_fs_ids(slot.first_id, || write(mount))
}

/// Joins `rootfs` and a prepared `layer` for the id range of `slot`.
pub(crate) fn assemble(rootfs: &Rootfs, layer: &Layer, slot: &Slot) -> io::Result<Assembled> {
    let userns = slot.userns.as_fd();
    let mut mounts = Vec::new();
    for bind in &rootfs.binds {
        let target = bind.target.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        mounts.push((target.to_owned(), read_only(&bind.source, userns)?));
    }
    let lower: Vec<OwnedFd> =
        rootfs.layers.iter().map(|path| read_only(path, userns)).collect::<io::Result<_>>()?;
    let root = join(&lower, &layer.mount, slot.first_id)?;
    let mut less = MountAttrFlags::empty();
    less.set(MountAttrFlags::MOUNT_ATTR_NOSUID, rootfs.without.setuid);
    less.set(MountAttrFlags::MOUNT_ATTR_RDONLY, rootfs.without.writes);
    if !less.is_empty() {
        // Also of what the host shows: a set-user-id program lies there.
        for (_, bind) in &mounts {
            mount::set_attributes(bind.as_fd(), less, None)?;
        }
        mount::set_attributes(root.as_fd(), less, None)?;
    }
    if rootfs.without.writes {
        for path in ["/tmp", "/run"] {
            mounts.push((path.to_owned(), scratch(slot.first_id, rootfs.without)?));
        }
    }
    Ok(Assembled { root, mounts, spent: lower })
}

/// Of `/tmp` and `/run` in a sandbox that cannot write elsewhere; its memory limit holds first where
/// that is less.
const SCRATCH_SIZE: &str = "512m";

/// Before Linux 6.15 overlayfs takes layers only from mounts that are attached where its maker is.
static DETACHED_LAYERS_FAIL: AtomicBool = AtomicBool::new(false);

/// Joins the layers as they are, or attached for the moment where the kernel wants that.
fn join(lower: &[OwnedFd], layer: &OwnedFd, first_id: u32) -> io::Result<OwnedFd> {
    let make = || mount::with_fs_ids(first_id, || overlay(lower, layer));
    if !DETACHED_LAYERS_FAIL.load(Ordering::Relaxed) {
        match make() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            made => return made,
        }
    }
    let root = mount::in_private_namespace(|| {
        // One on top of the other: descriptors lead to those below, too.
        let place = openat(CWD, "/tmp", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        for mount in lower.iter().chain([layer]) {
            mount::attach(mount.as_fd(), place.as_fd())?;
        }
        make()
    })?;
    DETACHED_LAYERS_FAIL.store(true, Ordering::Relaxed);
    Ok(root)
}

/// Makes root of the range that begins with `first_id` the owner of a fresh layer's directories.
fn give(layer: BorrowedFd<'_>, first_id: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(first_id), Gid::from_raw(first_id));
    for name in [UPPER, WORK] {
        chownat(layer, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn read_only(path: &Path, userns: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let name = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    let named = |error| at(path, error);
    let layer = mount::clone_at(CWD, name).map_err(named)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    mount::set_attributes(layer.as_fd(), attributes, Some(userns)).map_err(named)?;
    Ok(layer)
}

/// A directory in memory for everybody inside; what lies there counts as the sandbox's memory.
fn scratch(first_id: u32, without: Without) -> io::Result<OwnedFd> {
    let id = first_id.to_string();
    let options = [
        Opt::Value("size", SCRATCH_SIZE),
        Opt::Value("mode", "1777"),
        Opt::Value("uid", &id),
        Opt::Value("gid", &id),
    ];
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, without.setuid);
    mount::new(c"tmpfs", &options, attributes)
}

fn overlay(lower: &[OwnedFd], layer: &OwnedFd) -> io::Result<OwnedFd> {
    let open = |name: &str| {
        // Through the idmapped mount: overlayfs wants both on the very same mount.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(layer, name, flags, Mode::empty())
    };
    let (upper, work) = (open(UPPER)?, open(WORK)?);
    // By path of the descriptor and not by descriptor, which overlayfs takes since Linux 6.13 only.
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lower = lower.iter().map(path).collect::<Vec<_>>().join(":");
    let options = [
        Opt::Value("source", "soulbox"),
        Opt::Value("lowerdir", &lower),
        Opt::Value("upperdir", &path(&upper)),
        Opt::Value("workdir", &path(&work)),
        // A sandbox does not outlive a crash of the machine: never wait for the disk.
        Opt::Flag("volatile"),
    ];
    // No device file of an image may work: /dev is a mount of its own.
    mount::new(c"overlay", &options, MountAttrFlags::MOUNT_ATTR_NODEV)
}
