//! Small pieces of file work below one root.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    },
    path::Path,
};

use crate::{
    draft::CONTENT,
    error::{Error, Result},
    template::ROOTFS,
};

/// Bytes that everything below `dir` takes on disk; a file with several names counts once.
pub(crate) fn disk_usage(dir: &Path) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut pending = vec![dir.to_path_buf()];
    let mut bytes = 0;
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                pending.push(entry.path());
            } else if meta.nlink() > 1 && !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            bytes += meta.blocks() * 512;
        }
    }
    Ok(bytes)
}

/// Removes `dir` and all below it. The root of a template in it, or of one in the making, may be a
/// read-only subvolume that an engine made there.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    for (parent, name) in [(dir.to_path_buf(), ROOTFS), (dir.join(CONTENT), ROOTFS)] {
        // The number that every root of a subvolume has.
        const ROOT: u64 = 256;
        let is_root = fs::symlink_metadata(parent.join(name))
            .is_ok_and(|meta| meta.is_dir() && meta.ino() == ROOT);
        // Elsewhere a directory may have that number, too: what this cannot remove is tried below.
        if is_root && let Ok(parent) = fs::File::open(&parent) {
            let _ = soulbox_sys::btrfs::delete_subvolume(parent.as_fd(), name);
        }
    }
    fs::remove_dir_all(dir)
}

/// Makes `path` and its missing parents with `mode`, whatever the umask.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("chmod", path))
}

/// Writes a new file with `mode`, whatever the umask.
pub(crate) fn write_file(path: &Path, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("create", path))?;
    file.write_all(content.as_ref()).map_err(Error::io("write", path))?;
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(Error::io("chmod", path))
}

/// Removes a file that may not be there.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

pub(crate) fn own(path: &Path, uid: u32, gid: u32) -> Result<()> {
    chown(path, Some(uid), Some(gid)).map_err(Error::io("chown", path))
}

/// Removes everything in `path`, a directory that stays with mode 0755.
pub(crate) fn empty_dir(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).map_err(Error::io("empty", path))?;
    make_dir(path, 0o755)
}
