//! Keeping a layer by copying it, for stores that cannot do it by themselves.
//!
//! What is copied was made by whoever was in the sandbox. Nothing in it moves any more, no link in it is
//! followed, and what a layer has no use for stays behind: sockets, pipes, devices, and attributes
//! other than overlayfs's own mark of a directory that hides those below it.

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    fs::{DirBuilder, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
        chownat, fchmod, fgetxattr, fsetxattr, linkat, mkdirat, mknodat, openat, readlinkat,
        statat, symlinkat, utimensat,
    },
    io::Errno,
};

use super::UPPER;

/// Directories in each other; deeper ones are refused, as every one takes a descriptor.
const MAX_DEPTH: usize = 256;
const OPAQUE: &str = "trusted.overlay.opaque";
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies the upper directory of `layer`, whose ids begin with `first_id`, below `into`. Returns how
/// many bytes its files have.
pub(super) fn layer(layer: BorrowedFd<'_>, first_id: u32, into: &Path) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(layer)?;
    DirBuilder::new().mode(0o700).create(into)?;
    let target = File::open(into)?;
    let mut copy = Copy {
        first_id,
        // More than the layer can hold means holes, which would become real.
        budget: stat.f_blocks.saturating_mul(stat.f_frsize),
        bytes: 0,
        linked: HashMap::new(),
        root: target.as_fd(),
    };
    copy.directory(layer, target.as_fd(), UPPER.as_ref(), Path::new(""), 0)?;
    Ok(copy.bytes)
}

struct Copy<'a> {
    first_id: u32,
    budget: u64,
    bytes: u64,
    /// Files with several names, by inode, and where they were copied to below `root`.
    linked: HashMap<u64, PathBuf>,
    root: BorrowedFd<'a>,
}

impl Copy<'_> {
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &Path,
        above: &Path,
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!(
                "more than {MAX_DEPTH} directories in each other"
            )));
        }
        let source = openat(from, name, DIRECTORY, Mode::empty())?;
        mkdirat(to, name, Mode::from(0o700))?;
        let target = openat(to, name, DIRECTORY, Mode::empty())?;
        let path = above.join(name);
        for entry in Dir::read_from(&source)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.entry(&source, &target, name, &path, depth)?;
            }
        }
        let mut opaque = [0; 1];
        match fgetxattr(&source, OPAQUE, &mut opaque[..]) {
            Ok(1) => fsetxattr(&target, OPAQUE, &opaque, XattrFlags::empty())?,
            Ok(_) | Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        let stat = rustix::fs::fstat(&source)?;
        self.give(&target, c".", &stat)?;
        fchmod(&target, Mode::from_raw_mode(stat.st_mode))?;
        Ok(())
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        above: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        // Any bytes may be a name.
        let path = Path::new(OsStr::from_bytes(name.to_bytes()));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                return self.directory(from.as_fd(), to.as_fd(), path, above, depth + 1);
            }
            FileType::RegularFile => return self.file(from, to, name, &above.join(path), &stat),
            FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
            // Overlayfs's mark of a file that is gone.
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                mknodat(to, name, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
            _ => return Ok(()),
        }
        self.give(to, name, &stat)
    }

    fn file(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        path: &Path,
        stat: &Stat,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&stat.st_ino) {
                return Ok(linkat(self.root, first, to, name, AtFlags::empty())?);
            }
            self.linked.insert(stat.st_ino, path.to_owned());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = File::from(openat(from, name, flags, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut target = File::from(openat(to, name, flags, Mode::from(0o600))?);
        let left = self.budget.saturating_sub(self.bytes);
        let copied = io::copy(&mut source.take(left.saturating_add(1)), &mut target)?;
        if copied > left {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes += copied;
        self.give(to, name, stat)?;
        // After the owner, which takes a set-user-id bit away.
        Ok(fchmod(&target, Mode::from_raw_mode(stat.st_mode))?)
    }

    /// Owner and times as inside.
    fn give(&self, dir: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
        let inside = |id: u32| {
            let id = id.checked_sub(self.first_id).filter(|id| *id < 65536);
            id.ok_or_else(|| io::Error::other("a file that belongs to nobody inside"))
        };
        let (uid, gid) = (Uid::from_raw(inside(stat.st_uid)?), Gid::from_raw(inside(stat.st_gid)?));
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
            last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
        };
        Ok(utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};

    use super::*;

    /// As root only: files are given to others.
    #[test]
    fn what_a_layer_may_hold_is_kept_and_nothing_else() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        const FIRST: u32 = 1 << 30;
        let dir = tempfile::tempdir().unwrap();
        let upper = dir.path().join("from/upper");
        std::fs::create_dir_all(upper.join("d")).unwrap();
        std::fs::write(upper.join("d/setuid"), "x").unwrap();
        std::fs::hard_link(upper.join("d/setuid"), upper.join("same")).unwrap();
        std::fs::set_permissions(upper.join("same"), PermissionsExt::from_mode(0o4755)).unwrap();
        symlink("/etc/shadow", upper.join("link")).unwrap();
        let fd = File::open(&upper).unwrap();
        mknodat(&fd, "gone", FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        mknodat(&fd, "null", FileType::CharacterDevice, Mode::empty(), rustix::fs::makedev(1, 3))
            .unwrap();
        mknodat(&fd, "pipe", FileType::Fifo, Mode::from(0o666), 0).unwrap();
        for path in ["", "d", "d/setuid", "link", "gone"] {
            chownat(&fd, path, Some(Uid::from_raw(FIRST + 7)), Some(Gid::from_raw(FIRST)), {
                AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH
            })
            .unwrap();
        }
        chown(upper.join("d/setuid"), Some(FIRST + 7), Some(FIRST)).unwrap();
        std::fs::set_permissions(upper.join("same"), PermissionsExt::from_mode(0o4755)).unwrap();

        let into = dir.path().join("into");
        let from = File::open(dir.path().join("from")).unwrap();
        layer(from.as_fd(), FIRST, &into).unwrap();
        let meta = |name: &str| std::fs::symlink_metadata(into.join(UPPER).join(name));
        let file = meta("same").unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (7, 0, 0o4755));
        assert_eq!(file.ino(), meta("d/setuid").unwrap().ino());
        assert!(meta("link").unwrap().is_symlink());
        assert_eq!(meta("gone").unwrap().rdev(), 0);
        assert!(meta("null").is_err() && meta("pipe").is_err());

        // Of nobody inside: refused as a whole.
        chown(upper.join("same"), Some(0), Some(0)).unwrap();
        assert!(layer(from.as_fd(), FIRST, &dir.path().join("again")).is_err());
    }
}
