//! Mounts by descriptor: made detached, shifted to another id range, attached later.
//!
//! Everything here is the mount API of Linux 5.2 and later (`fsopen(2)`, `open_tree(2)`,
//! `move_mount(2)`, `mount_setattr(2)`); no path below a sandbox is ever looked up by name
//! without `openat2(2)` limits.

use std::{
    ffi::CStr,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
        mount_change, move_mount, open_tree,
    },
};

use crate::check;

/// Whether the kernel has the file system `fs`; loads it where it is a module.
///
/// `/proc/filesystems` does not show modules that nothing has used since the machine started.
pub fn knows(fs: &CStr) -> bool {
    fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
}

/// A value for [`new`]: a key alone or a key with a string.
#[derive(Debug, Clone, Copy)]
pub enum Opt<'a> {
    Flag(&'a str),
    Value(&'a str, &'a str),
}

/// Makes a file system and returns it as a detached mount.
///
/// # Errors
/// What the kernel reports, with its own explanation when it left one.
pub fn new(fs: &CStr, options: &[Opt<'_>], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let made = (|| {
        for option in options {
            match *option {
                Opt::Flag(key) => fsconfig_set_flag(context.as_fd(), key)?,
                Opt::Value(key, value) => fsconfig_set_string(context.as_fd(), key, value)?,
            }
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    })();
    made.map_err(|errno| explain(&context, errno))
}

/// Adds what the kernel wrote to the context's log (`fsopen(2)`: "read() on the descriptor").
fn explain(context: &OwnedFd, errno: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(errno);
    let mut text = [0; 512];
    let mut notes = Vec::new();
    while let Ok(len @ 1..) = rustix::io::read(context, &mut text) {
        notes.push(String::from_utf8_lossy(&text[..len]).trim().to_owned());
        if notes.len() == 4 {
            break;
        }
    }
    if notes.is_empty() {
        error
    } else {
        io::Error::new(error.kind(), format!("{error} ({})", notes.join("; ")))
    }
}

/// A detached copy of what is mounted at `path` below `dir`, without submounts.
///
/// # Errors
/// What `open_tree(2)` reports.
pub fn clone_at(dir: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    Ok(open_tree(dir, path, flags)?)
}

/// Attaches a detached mount on top of the file or directory `target`.
///
/// # Errors
/// What `move_mount(2)` reports.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Opens `path` below `root` as a place to mount on. Symbolic links are refused and nothing leads
/// out of `root`, so a hostile root file system cannot redirect the mount.
///
/// # Errors
/// What `openat2(2)` reports.
pub fn target(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    Ok(openat2(
        root,
        path.trim_start_matches('/'),
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?)
}

/// Changes attributes of a mount; with `userns`, its ids are shifted to that namespace's range.
///
/// # Errors
/// What `mount_setattr(2)` reports; `EINVAL` where the file system cannot be idmapped.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: MountAttrFlags,
    userns: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    if let Some(userns) = userns {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = userns.as_raw_fd() as u64;
    }
    // SAFETY: the path is an empty C string and the structure lives through the call; its size is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Runs `body` on a thread of its own, in a copy of the mount namespace that ends with it: what it
/// attaches is seen by nobody else, and is gone even if the process is killed in the middle of it.
///
/// # Errors
/// What `unshare(2)` and `mount(2)` report, and the error of `body`.
pub fn in_private_namespace<T: Send>(body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let enter = || -> io::Result<()> {
        // SAFETY: no memory is passed; the root and working directory that this takes from the other
        // threads are those of a thread that ends with the call.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        Ok(mount_change("/", private)?)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounts".into());
        let running = thread.spawn_scoped(scope, || enter().and_then(|()| body()))?;
        running.join().unwrap_or_else(|_| Err(io::Error::other("the thread for mounts panicked")))
    })
}

/// Whether something is mounted at `path` that is not a part of its parent's file system.
///
/// # Errors
/// What `stat(2)` reports.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let parent = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

/// Runs `body` with the file system ids `id:id` on this thread and gives root its own back.
///
/// An overlay remembers who made it and acts on its layers as that user: on idmapped layers it
/// must be an id that they map, or the kernel silently mounts it read-only.
///
/// # Errors
/// What `prctl(2)` reports, and the error of `body`.
pub fn with_fs_ids<T>(id: u32, body: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use rustix::thread::{CapabilitiesSecureBits as Bits, set_capabilities_secure_bits};

    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            set_ids(0);
            let _ = set_capabilities_secure_bits(Bits::empty());
        }
    }

    // Without it, leaving fsuid 0 would drop the capabilities that mounting needs.
    set_capabilities_secure_bits(Bits::NO_SETUID_FIXUP)?;
    let _restore = Restore;
    set_ids(id);
    body()
}

fn set_ids(id: u32) {
    // SAFETY: plain syscalls without memory arguments; they change this thread's credentials alone.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, id);
        libc::syscall(libc::SYS_setfsuid, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_name() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        assert!(knows(c"tmpfs"));
        assert!(!knows(c"no-such-file-system"));
    }

    #[test]
    fn a_private_namespace_shows_its_mounts_to_nobody() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let inside = || {
            let tmpfs = new(c"tmpfs", &[], MountAttrFlags::empty())?;
            attach(tmpfs.as_fd(), std::fs::File::open(directory.path())?.as_fd())?;
            std::fs::write(directory.path().join("seen"), "inside")?;
            Ok(tmpfs)
        };
        let tmpfs = in_private_namespace(inside).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        // Whoever holds a descriptor keeps the file system.
        rustix::fs::statat(&tmpfs, "seen", rustix::fs::AtFlags::empty()).unwrap();
    }
}
