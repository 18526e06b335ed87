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
    path::Path,
};

use rustix::{
    fs::{FileType, Mode, OFlags, makedev, mknodat, openat},
    mount::{MountAttrFlags, UnmountFlags, unmount},
};
use soulbox_sys::mount::{self, Opt};

#[derive(Debug)]
pub(crate) struct Fixtures {
    root: OwnedFd,
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

impl Fixtures {
    pub(crate) fn make(data_dir: &Path) -> io::Result<Self> {
        let run = data_dir.join("run");
        let sockets = data_dir.join("sockets");
        for directory in [&run, &sockets] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        Self::unmount(data_dir);
        let options = [Opt::Value("mode", "0700"), Opt::Value("size", "1m")];
        let tmpfs = mount::new(c"tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
        let at = fs::File::open(&run)?;
        mount::attach(tmpfs.as_fd(), at.as_fd())?;
        // Plain directories with modes of their own, whatever the server's umask is.
        let umask = rustix::process::umask(Mode::empty());
        let furnished = furnish_dev(&run.join("dev")).and_then(|()| furnish_sys(&run.join("sys")));
        rustix::process::umask(umask);
        furnished?;
        mount_sockets(&sockets)?;
        Ok(Self { root: tmpfs, sockets: fs::File::open(sockets)?.into() })
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
    pub(crate) fn clones(&self, userns: BorrowedFd<'_>) -> io::Result<[OwnedFd; 2]> {
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
        Ok([dev, copy("sys", inert)?])
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

fn furnish_sys(sys: &Path) -> io::Result<()> {
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
    Ok(())
}
