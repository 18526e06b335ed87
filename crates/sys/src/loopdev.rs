//! Loop devices: a file as a block device (`loop(4)`).

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use crate::check;

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device that frees itself when its last user (this handle or a mount) is gone.
#[derive(Debug)]
pub struct LoopDevice {
    pub path: PathBuf,
    /// Keeps the device until something is mounted from it.
    _device: File,
}

/// The loop device of `backing`: the one that it is attached to, or a free one; with direct I/O where its
/// file system can.
///
/// A device that was unmounted here lives on as long as another mount namespace has it mounted, as those of
/// programs do that were started meanwhile. A file system on two devices would be written by two that know
/// nothing of each other, and be lost.
///
/// # Errors
/// What `/dev/loop-control` and `LOOP_CONFIGURE` report.
pub fn attach(backing: &File) -> io::Result<LoopDevice> {
    if let Some(device) = attached(backing)? {
        return Ok(device);
    }
    attach_with(backing, LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO)
        .or_else(|_| attach_with(backing, LO_FLAGS_AUTOCLEAR))
}

/// The device that has this file already. Devices that are being freed cannot be opened, and an open one is
/// not freed.
fn attached(backing: &File) -> io::Result<Option<LoopDevice>> {
    let wanted = backing.metadata()?;
    for entry in fs::read_dir("/sys/block").into_iter().flatten() {
        let entry = entry?;
        if !entry.path().join("loop").exists() {
            continue;
        }
        let path = Path::new("/dev").join(entry.file_name());
        let Ok(device) = File::open(&path) else { continue };
        // SAFETY: the structure is plain data for which all zeroes is a valid value.
        let mut info: LoopInfo64 = unsafe { std::mem::zeroed() };
        // SAFETY: the ioctl writes one `LoopInfo64` that lives through the call.
        let status =
            check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &mut info) }.into());
        if status.is_ok() && info.device == wanted.dev() && info.inode == wanted.ino() {
            return Ok(Some(LoopDevice { path, _device: device }));
        }
    }
    Ok(None)
}

fn attach_with(backing: &File, flags: u32) -> io::Result<LoopDevice> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    // Between asking for a free device and taking it another process may take it.
    for _ in 0..16 {
        // SAFETY: the ioctl takes no memory argument.
        let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }.into())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).write(true).open(&path)?;
        // SAFETY: the structure is plain data for which all zeroes is a valid value.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = backing.as_fd().as_raw_fd() as u32;
        config.info.flags = flags;
        // SAFETY: the ioctl reads one `LoopConfig` that lives through the call.
        let done =
            check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) }.into());
        match done {
            Ok(_) => return Ok(LoopDevice { path, _device: device }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_device() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let [file, other] = [(); 2].map(|()| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(1 << 20).unwrap();
            file
        });
        let device = attach(&file).unwrap();
        let again = attach(&file).unwrap();
        assert_eq!(again.path, device.path);
        assert_ne!(attach(&other).unwrap().path, device.path);
        drop(device);
        assert_eq!(attach(&file).unwrap().path, again.path, "one of its users is left");
    }
}
