//! The image that the store lies in, where the machine has no file system for it.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use rustix::mount::{MountFlags, mount};
use soulbox_faults::point;
use soulbox_model::resources::GIB;
use soulbox_sys::loopdev;

use super::btrfs::unsupported;

/// Bytes of the disk below that new sandboxes leave to those that live.
const LEAST_ROOM: u64 = 128 << 20;
/// How often to look whether a loop device is free, and how long to wait in between.
const RELEASES: u32 = 10;
const RELEASE_AFTER: Duration = Duration::from_millis(20);

/// Mounts the image, after making it at the first start.
pub(super) fn mount_at(image: &Path, at: &Path) -> io::Result<()> {
    if !image.exists() {
        make(image)?;
    }
    let file = OpenOptions::new().read(true).write(true).open(image)?;
    let device = loopdev::attach(&file).map_err(|e| {
        let advice = match e.kind() {
            io::ErrorKind::NotFound => " (does `modprobe loop` help?)",
            _ => "",
        };
        io::Error::new(e.kind(), format!("loop device for {}: {e}{advice}", image.display()))
    })?;
    point("image.attached");
    mount_device(&device.path, at, MountFlags::empty())
}

/// Mounts again a file system that the kernel made read-only and that others still use: it stays so.
pub(super) fn mount_read_only(device: &Path, at: &Path) -> io::Result<()> {
    mount_device(device, at, MountFlags::RDONLY)
}

fn mount_device(device: &Path, at: &Path, more: MountFlags) -> io::Result<()> {
    let flags = MountFlags::NOATIME | MountFlags::NODEV | more;
    mount(device, at, "btrfs", flags, c"discard=async").map_err(|e| {
        io::Error::new(io::Error::from(e).kind(), format!("mount {}: {e}", device.display()))
    })
}

/// Whether a loop device has let go of its file, waiting a little: that happens after its last user.
pub(super) fn is_free(device: &Path) -> bool {
    let Some(name) = device.file_name() else { return false };
    let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
    for _ in 0..RELEASES {
        if !backing.exists() {
            return true;
        }
        thread::sleep(RELEASE_AFTER);
    }
    false
}

/// Whether the disk below the image has room for what the store holds already to be written anew. The image
/// is sparse: should a write to it fail for want of space, the kernel makes the store read-only.
///
/// # Errors
/// `StorageFull` with what to do about it.
pub(super) fn check_room(image: &Path) -> io::Result<()> {
    let stat = rustix::fs::statvfs(image)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= LEAST_ROOM {
        return Ok(());
    }
    let directory = image.parent().unwrap_or(image).display();
    Err(io::Error::new(
        io::ErrorKind::StorageFull,
        format!("the disk of {directory} has {} MiB left: free some space there", free >> 20),
    ))
}

/// A sparse file of three quarters of the free space, formatted under another name until it is complete.
fn make(image: &Path) -> io::Result<()> {
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
    point("image.made");
    fs::rename(&partial, image)?;
    point("image.renamed");
    Ok(())
}
