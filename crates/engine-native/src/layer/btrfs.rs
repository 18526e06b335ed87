//! Layers as btrfs subvolumes on a loop image: 45 µs each, limit included.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use parking_lot::Mutex;
use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{MountFlags, mount},
};
use soulbox_model::{SandboxId, resources::GIB};
use soulbox_sys::{
    btrfs::{self, Quota},
    loopdev, mount as detached,
};

use super::{Ids, Layer, Layers, furnish};

/// `BTRFS_SUPER_MAGIC`
const MAGIC: u64 = 0x9123_683E;
/// How many stale quota groups to try at each deletion.
const FORGET_AT_ONCE: usize = 4;

#[derive(Debug)]
pub(crate) struct Btrfs {
    layers: OwnedFd,
    path: PathBuf,
    quota: Quota,
    /// `/sys/fs/btrfs/<uuid>/qgroups`
    qgroups: PathBuf,
    device: PathBuf,
    /// Quota groups of deleted subvolumes, to be removed.
    stale: Mutex<VecDeque<u64>>,
}

fn unsupported(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text.into())
}

impl Btrfs {
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        if !detached::knows(c"btrfs") {
            return Err(unsupported("this kernel has no btrfs"));
        }
        let store = data_dir.join("store");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&store)?;
        if !is_btrfs(&store)? {
            mount_image(&data_dir.join("store.img"), &store)?;
        }
        let path = store.join("layers");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let layers = File::open(&path)?;
        let quota = enable_quota(layers.as_fd())?;
        let device = device_of(&store)?;
        let qgroups = qgroups_on(&device)?;
        let stale = Mutex::default();
        Ok(Self { layers: layers.into(), path, quota, qgroups, device, stale })
    }
}

fn enable_quota(layers: BorrowedFd<'_>) -> io::Result<Quota> {
    match btrfs::enable_quota(layers, Quota::Simple) {
        Ok(()) => return Ok(Quota::Simple),
        Err(error) => tracing::debug!(%error, "no simple quotas (Linux 6.7)"),
    }
    btrfs::enable_quota(layers, Quota::Full)
        .map_err(|e| unsupported(format!("quotas of btrfs: {e}")))?;
    Ok(Quota::Full)
}

fn is_btrfs(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type as u64 == MAGIC && detached::is_mount_point(path)?)
}

/// Mounts the image, after making it at the first start.
fn mount_image(image: &Path, at: &Path) -> io::Result<()> {
    if !image.exists() {
        make_image(image)?;
    }
    let file = OpenOptions::new().read(true).write(true).open(image)?;
    let device = loopdev::attach(&file).map_err(|e| {
        let advice = match e.kind() {
            io::ErrorKind::NotFound => " (does `modprobe loop` help?)",
            _ => "",
        };
        io::Error::new(e.kind(), format!("loop device for {}: {e}{advice}", image.display()))
    })?;
    let flags = MountFlags::NOATIME | MountFlags::NODEV;
    mount(&device.path, at, "btrfs", flags, c"discard=async").map_err(|e| {
        io::Error::new(io::Error::from(e).kind(), format!("mount {}: {e}", image.display()))
    })
}

/// A sparse file of three quarters of the free space, formatted under another name until it is complete.
fn make_image(image: &Path) -> io::Result<()> {
    let directory = image.parent().unwrap_or(Path::new("/"));
    let free = rustix::fs::statvfs(directory)?;
    let size = (free.f_bavail * free.f_frsize / 4 * 3).max(GIB) / GIB * GIB;
    let partial = image.with_extension("img.partial");
    let _ = fs::remove_file(&partial);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.set_len(size)?;
    let output = Command::new("mkfs.btrfs")
        .args(["--quiet", "--metadata", "single", "--data", "single", "--features", "no-holes"])
        .arg(&partial)
        .output()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => unsupported("mkfs.btrfs is missing: install btrfs-progs"),
            _ => e,
        })?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("mkfs.btrfs: {why}")));
    }
    file.sync_all()?;
    fs::rename(&partial, image)
}

/// The block device of the file system mounted at `store`.
fn device_of(store: &Path) -> io::Result<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let store = fs::canonicalize(store)?;
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let at = left.split(' ').nth(4)?;
            (Path::new(at) == store).then(|| right.split(' ').nth(1))?
        })
        .next_back()
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("{} is not mounted", store.display())))
}

/// The kernel's own accounting of the file system on `device`.
fn qgroups_on(device: &Path) -> io::Result<PathBuf> {
    let unknown = || io::Error::other(format!("/sys/fs/btrfs does not know {}", device.display()));
    let name = device.file_name().ok_or_else(unknown)?;
    for entry in fs::read_dir("/sys/fs/btrfs")? {
        let path = entry?.path();
        if path.join("devices").join(name).exists() {
            return Ok(path.join("qgroups"));
        }
    }
    Err(unknown())
}

impl Btrfs {
    fn subvolume(&self, id: &SandboxId) -> io::Result<u64> {
        btrfs::subvolume_id(self.open_layer(id)?.as_fd())
    }

    fn open_layer(&self, id: &SandboxId) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(openat(&self.layers, id.as_str(), flags, Mode::empty())?)
    }

    /// Removes quota groups of deleted subvolumes, which kernels with full quotas keep, and refuse to
    /// remove until the space is free: half a minute later, so those of before. What the server's
    /// end finds waiting stays: the file system may be shared, and groups do not say whose they are.
    fn forget(&self, subvolume: Option<u64>) {
        let mut stale = self.stale.lock();
        stale.extend(subvolume);
        for _ in 0..stale.len().min(FORGET_AT_ONCE) {
            let Some(group) = stale.pop_front() else { break };
            match btrfs::remove_quota_group(self.layers.as_fd(), group) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => stale.push_back(group),
                Err(error) => tracing::debug!(group, %error, "quota group not removed"),
                Ok(()) => {}
            }
        }
    }
}

impl Layers for Btrfs {
    fn name(&self) -> &'static str {
        match self.quota {
            Quota::Simple => "btrfs",
            Quota::Full => "btrfs with full quotas",
        }
    }

    fn device(&self) -> Option<&Path> {
        Some(&self.device)
    }

    fn create(&self, id: &SandboxId, bytes: u64) -> io::Result<Layer> {
        btrfs::create_subvolume(self.layers.as_fd(), id.as_str(), Some(bytes))?;
        let mount = detached::clone_at(self.layers.as_fd(), id.as_str())?;
        furnish(mount.as_fd())?;
        Ok(Layer { mount, ids: Ids::FromZero })
    }

    fn usage(&self, id: &SandboxId) -> io::Result<u64> {
        let subvolume = self.subvolume(id)?;
        let text = fs::read_to_string(self.qgroups.join(format!("0_{subvolume}/referenced")))?;
        text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn freeze(&self, id: &SandboxId, _: u32, into: &Path) -> io::Result<u64> {
        let layer = self.open_layer(id)?;
        // Counted only when it is on disk.
        rustix::fs::syncfs(&layer)?;
        let bytes = self.usage(id)?;
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let (Some(parent), Some(name)) = (into.parent(), into.file_name()) else {
            return Err(invalid());
        };
        let name = name.to_str().ok_or_else(invalid)?;
        btrfs::snapshot(layer.as_fd(), File::open(parent)?.as_fd(), name)?;
        Ok(bytes)
    }

    fn delete(&self, id: &SandboxId) -> io::Result<()> {
        let stale = (self.quota == Quota::Full).then(|| self.subvolume(id));
        match btrfs::delete_subvolume(self.layers.as_fd(), id.as_str()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        if let Some(stale) = stale {
            self.forget(stale.ok());
        }
        Ok(())
    }

    fn ids(&self) -> io::Result<Vec<SandboxId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    }
}
