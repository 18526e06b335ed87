//! Layers as btrfs subvolumes on a loop image, each made ahead: see [`super::spare`].

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use rustix::{
    fs::{Mode, OFlags, StatVfsMountFlags, openat},
    mount::{UnmountFlags, unmount},
};
use soulbox_faults::point;
use soulbox_model::SandboxId;
use soulbox_sys::{
    btrfs::{self, Access, Quota},
    mount as detached,
};

use super::{Ids, Layer, Layers, image, numbers::Numbers, spare::Spares};

/// `BTRFS_SUPER_MAGIC`
const MAGIC: u64 = 0x9123_683E;
/// How many stale quota groups to try at each deletion.
const FORGET_AT_ONCE: usize = 4;

#[derive(Debug)]
pub(crate) struct Btrfs {
    store: PathBuf,
    /// Where the store lies, unless it is a file system of the machine's.
    image: Option<PathBuf>,
    opened: RwLock<Opened>,
    quota: Quota,
    /// Quota groups of deleted subvolumes, to be removed.
    stale: Mutex<VecDeque<u64>>,
    spares: Arc<Spares>,
    numbers: Numbers,
}

/// The file system, until it has to be mounted anew.
#[derive(Debug)]
struct Opened {
    layers: OwnedFd,
    /// `/sys/fs/btrfs/<uuid>/qgroups`
    qgroups: PathBuf,
    device: PathBuf,
}

pub(super) fn unsupported(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text.into())
}

impl Opened {
    fn at(store: &Path) -> io::Result<Self> {
        let path = store.join("layers");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let layers = File::open(&path)?;
        let device = device_of(store)?;
        let qgroups = qgroups_on(&device)?;
        Ok(Self { layers: layers.into(), qgroups, device })
    }

    fn is_usable(&self) -> io::Result<bool> {
        let stat = rustix::fs::fstatvfs(&self.layers)?;
        let is_btrfs = rustix::fs::fstatfs(&self.layers)?.f_type as u64 == MAGIC;
        Ok(is_btrfs && !stat.f_flag.contains(StatVfsMountFlags::RDONLY))
    }
}

impl Btrfs {
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        if !detached::knows(c"btrfs") {
            return Err(unsupported("this kernel has no btrfs"));
        }
        let (store, image) = (data_dir.join("store"), data_dir.join("store.img"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&store)?;
        if !is_btrfs(&store)? {
            image::mount_at(&image, &store)?;
        }
        let opened = Opened::at(&store)?;
        let image = image.exists().then_some(image);
        let quota = match enable_quota(opened.layers.as_fd()) {
            // It has what an earlier start gave it.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                quota_of(&opened.qgroups)
            }
            enabled => enabled?,
        };
        let opened = RwLock::new(opened);
        let spares = Arc::new(Spares::new(&store));
        let numbers = Numbers::new(&store);
        let btrfs = Self { store, image, opened, quota, stale: Mutex::default(), spares, numbers };
        match btrfs.check() {
            Ok(()) => btrfs.spares.fill_beside(),
            Err(error) => tracing::error!(%error, "no sandbox can be made"),
        }
        Ok(btrfs)
    }

    /// Mounts a store anew that the kernel made read-only, as it does when a write to the image failed. It
    /// stays so as long as a sandbox uses it.
    fn reopen(&self) -> io::Result<()> {
        let mut opened = self.opened.write();
        if opened.is_usable()? {
            return Ok(());
        }
        if let Some(image) = &self.image {
            // The descriptor of a directory elsewhere, so that nothing here holds the store.
            opened.layers = File::open("/")?.into();
            let _ = unmount(&self.store, UnmountFlags::DETACH);
            match image::is_free(&opened.device) {
                true => image::mount_at(image, &self.store)?,
                false => image::mount_read_only(&opened.device, &self.store)?,
            }
            *opened = Opened::at(&self.store)?;
            if opened.is_usable()? {
                tracing::warn!("the sandbox store was read-only and is mounted anew");
                return Ok(());
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ReadOnlyFilesystem,
            format!(
                "the store at {} became read-only, as it does when its disk is full: free space there, \
                 and end the sandboxes that live",
                self.store.display()
            ),
        ))
    }
}

fn enable_quota(layers: BorrowedFd<'_>) -> io::Result<Quota> {
    match btrfs::enable_quota(layers, Quota::Simple) {
        Ok(()) => return Ok(Quota::Simple),
        Err(error) => tracing::debug!(%error, "no simple quotas (Linux 6.7)"),
    }
    match btrfs::enable_quota(layers, Quota::Full) {
        Ok(()) => Ok(Quota::Full),
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Err(error),
        Err(error) => Err(unsupported(format!("quotas of btrfs: {error}"))),
    }
}

/// What the file system has, as the kernel says it.
fn quota_of(qgroups: &Path) -> Quota {
    match fs::read_to_string(qgroups.join("mode")) {
        Ok(mode) if mode.trim() == "squota" => Quota::Simple,
        _ => Quota::Full,
    }
}

fn is_btrfs(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type as u64 == MAGIC && detached::is_mount_point(path)?)
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
        Ok(openat(&self.opened.read().layers, id.as_str(), flags, Mode::empty())?)
    }

    /// Removes quota groups of deleted subvolumes, which kernels with full quotas keep, and refuse to
    /// remove until the space is free: half a minute later, so those of before. What the server's
    /// end finds waiting stays: the file system may be shared, and groups do not say whose they are.
    fn forget(&self, subvolume: Option<u64>) {
        let mut stale = self.stale.lock();
        stale.extend(subvolume);
        for _ in 0..stale.len().min(FORGET_AT_ONCE) {
            let Some(group) = stale.pop_front() else { break };
            match btrfs::remove_quota_group(self.opened.read().layers.as_fd(), group) {
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

    fn device(&self) -> Option<PathBuf> {
        Some(self.opened.read().device.clone())
    }

    fn check(&self) -> io::Result<()> {
        if let Some(image) = &self.image {
            image::check_room(image)?;
        }
        let usable = self.opened.read().is_usable()?;
        if usable { Ok(()) } else { self.reopen() }
    }

    fn create(&self, id: &SandboxId, bytes: u64) -> io::Result<Layer> {
        let opened = self.opened.read();
        let above = self.spares.take(opened.layers.as_fd(), id.as_str())?;
        point("layer.made");
        btrfs::limit(self.open_layer(id)?.as_fd(), bytes)?;
        let mount = detached::clone_at(opened.layers.as_fd(), id.as_str())?;
        Ok(Layer { mount, ids: Ids::FromZero, above })
    }

    fn is_beyond(&self, layer: &Layer, below: &[PathBuf]) -> io::Result<bool> {
        let highest = self.numbers.highest(below)?;
        Ok(highest <= layer.above || !self.spares.raise(highest)?)
    }

    fn forget(&self, dir: &Path) {
        self.numbers.forget(dir);
    }

    fn close(&self) {
        self.spares.close();
    }

    fn usage(&self, id: &SandboxId) -> io::Result<u64> {
        let subvolume = self.subvolume(id)?;
        let text = fs::read_to_string(
            self.opened.read().qgroups.join(format!("0_{subvolume}/referenced")),
        )?;
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
        btrfs::snapshot(layer.as_fd(), File::open(parent)?.as_fd(), name, Access::ReadOnly)?;
        // Whoever freezes has time; it would be the first one who makes a sandbox of it otherwise.
        let raised = self.numbers.look(into).and_then(|highest| self.spares.raise(highest));
        if let Err(error) = raised {
            tracing::debug!(%error, "inode numbers are looked at later");
        }
        Ok(bytes)
    }

    fn delete(&self, id: &SandboxId) -> io::Result<()> {
        let stale = (self.quota == Quota::Full).then(|| self.subvolume(id));
        let deleted = btrfs::delete_subvolume(self.opened.read().layers.as_fd(), id.as_str());
        match deleted {
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
        for entry in fs::read_dir(self.store.join("layers"))? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    }
}
