//! What all sandboxes of a server share, read-only: `/dev`, `/sys`, and where their sockets lie.
//!
//! One small tmpfs at `<data-dir>/run` holds it; it is made anew at each start, while sandboxes of an
//! earlier start keep the one that they were born with. The sockets' tmpfs stays as long as they do.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use rustix::{
    fs::{FileType, Mode, OFlags, makedev, mknodat, openat},
    mount::{MountAttrFlags, UnmountFlags, unmount},
};
use soulbox_model::Resources;
use soulbox_sys::mount::{self, Opt};

use crate::cgroup::Cgroups;

#[derive(Debug)]
pub(crate) struct Fixtures {
    root: OwnedFd,
    directory: PathBuf,
    /// For which limits there is a `/sys`, and what it is called in `directory`.
    limits: Mutex<Vec<(Resources, String)>>,
    /// The directory of the sandboxes' sockets; outlives the server, as they do.
    pub(crate) sockets: OwnedFd,
}

const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const DEV_LINKS: &[(&str, &str)] = &[
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Copied from the host's `/sys`: what run-time systems read to find out how many processors there are.
const SYS_FILES: &[&str] = &[
    "devices/system/cpu/online",
    "devices/system/cpu/possible",
    "devices/system/cpu/present",
    "devices/system/node/online",
    "kernel/mm/transparent_hugepage/enabled",
    "kernel/mm/transparent_hugepage/hpage_pmd_size",
];

const SYS_DIRECTORIES: &[&str] = &["block", "bus", "class/net", "fs/cgroup", "module"];

/// Without limits: for sandboxes that come after [`MOST_LIMITS`] others, each with limits of its own.
const PLAIN_SYS: &str = "sys";

/// Kinds of limits that get a `/sys`, some ten files each.
const MOST_LIMITS: usize = 64;

impl Fixtures {
    pub(crate) fn make(data_dir: &Path) -> io::Result<Self> {
        let run = data_dir.join("run");
        let sockets = data_dir.join("sockets");
        for directory in [&run, &sockets] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        Self::unmount(data_dir);
        let options = [Opt::Value("mode", "0700"), Opt::Value("size", "8m")];
        let tmpfs = mount::new(c"tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
        let at = fs::File::open(&run)?;
        mount::attach(tmpfs.as_fd(), at.as_fd())?;
        // Plain directories with modes of their own, whatever the server's umask is.
        let umask = rustix::process::umask(Mode::empty());
        let furnished =
            furnish_dev(&run.join("dev")).and_then(|()| furnish_sys(&run.join(PLAIN_SYS), &[]));
        rustix::process::umask(umask);
        furnished?;
        mount_sockets(&sockets)?;
        let sockets = fs::File::open(sockets)?.into();
        Ok(Self { root: tmpfs, directory: run, limits: Mutex::default(), sockets })
    }

    /// Takes down what [`Self::make`] mounted for new sandboxes; others keep their own copies.
    fn unmount(data_dir: &Path) {
        while unmount(data_dir.join("run"), UnmountFlags::DETACH).is_ok() {}
    }

    /// Takes down everything, when no sandbox is left.
    pub(crate) fn leave(data_dir: &Path) {
        Self::unmount(data_dir);
        let _ = unmount(data_dir.join("sockets"), UnmountFlags::DETACH);
    }

    /// Copies of `/dev` and `/sys` whose files belong to root of the range `userns`.
    pub(crate) fn clones(
        &self,
        userns: BorrowedFd<'_>,
        cgroups: &dyn Cgroups,
        resources: &Resources,
    ) -> io::Result<[OwnedFd; 2]> {
        let copy = |name: &str, attributes: MountAttrFlags| {
            let copy = mount::clone_at(self.root.as_fd(), name)?;
            let read_only = attributes | MountAttrFlags::MOUNT_ATTR_RDONLY;
            // tmpfs can be idmapped since Linux 6.3; before, its files belong to nobody, with the same modes.
            mount::set_attributes(copy.as_fd(), read_only, Some(userns))
                .or_else(|_| mount::set_attributes(copy.as_fd(), read_only, None))?;
            Ok::<_, io::Error>(copy)
        };
        let inert = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let dev =
            copy("dev", MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
        Ok([dev, copy(&self.sys(cgroups, resources), inert)?])
    }

    /// The name of the `/sys` whose `fs/cgroup` tells of these limits; run-time systems size heaps and pools of threads
    /// by them. Plain files: no file system of control groups is seen inside.
    fn sys(&self, cgroups: &dyn Cgroups, resources: &Resources) -> String {
        // The size of the disk is told by its file system.
        let limits = Resources { disk_bytes: 0, ..*resources };
        let mut known = self.limits.lock();
        if let Some((_, name)) = known.iter().find(|(told, _)| *told == limits) {
            return name.clone();
        }
        if known.len() == MOST_LIMITS {
            return PLAIN_SYS.to_owned();
        }
        let mut name = format!("{PLAIN_SYS}-{}", known.len());
        if let Err(error) = furnish_sys(&self.directory.join(&name), &cgroups.files(&limits)) {
            tracing::warn!(%error, "limits are not told inside");
            name = PLAIN_SYS.to_owned();
        }
        known.push((limits, name.clone()));
        name
    }
}

/// In memory: a disk's file system would take longer for a socket's name than for all else of it.
fn mount_sockets(at: &Path) -> io::Result<()> {
    // Whoever lives has its sockets here.
    if fs::read_dir(at)?.next().is_some() || mount::is_mount_point(at)? {
        return Ok(());
    }
    let options = [Opt::Value("mode", "0700"), Opt::Value("size", "1m")];
    let inert = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let tmpfs = mount::new(c"tmpfs", &options, inert)?;
    mount::attach(tmpfs.as_fd(), fs::File::open(at)?.as_fd())
}

fn furnish_dev(dev: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(dev)?;
    for name in ["pts", "shm", "mqueue"] {
        fs::DirBuilder::new().mode(0o755).create(dev.join(name))?;
    }
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        let directory =
            openat(rustix::fs::CWD, dev, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        mknodat(&directory, *name, FileType::CharacterDevice, mode, makedev(*major, *minor))?;
    }
    for (name, target) in DEV_LINKS {
        std::os::unix::fs::symlink(target, dev.join(name))?;
    }
    Ok(())
}

/// `limits`: by their paths below `fs/cgroup`.
fn furnish_sys(sys: &Path, limits: &[(&str, String)]) -> io::Result<()> {
    let make = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    make(sys)?;
    for name in SYS_DIRECTORIES {
        make(&sys.join(name))?;
    }
    for name in SYS_FILES {
        let Ok(content) = fs::read(Path::new("/sys").join(name)) else { continue };
        let path = sys.join(name);
        make(path.parent().unwrap_or(sys))?;
        fs::write(path, content)?;
    }
    for (name, value) in limits {
        let path = sys.join("fs/cgroup").join(name);
        make(path.parent().unwrap_or(sys))?;
        fs::write(path, format!("{value}\n"))?;
    }
    Ok(())
}
