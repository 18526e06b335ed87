//! btrfs: subvolumes with a size limit (`linux/btrfs.h`).

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use crate::check;

const MAGIC: u8 = 0x94;
const QUOTA_CTL_ENABLE: u64 = 1;
const QUOTA_CTL_ENABLE_SIMPLE: u64 = 4;
const SUBVOL_RDONLY: u64 = 1 << 1;
const QGROUP_LIMIT_MAX_RFER: u64 = 1;
const SUBVOL_NAME_MAX: usize = 4039;
const PATH_NAME_MAX: usize = 4087;

const fn ioc(direction: u64, number: u8, size: usize) -> libc::c_ulong {
    (direction << 30) | ((size as u64) << 16) | ((MAGIC as u64) << 8) | number as u64
}
const WRITE: u64 = 1;
const READ: u64 = 2;

#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; PATH_NAME_MAX + 1],
}

#[repr(C)]
struct QgroupLimit {
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    rsv_referenced: u64,
    rsv_exclusive: u64,
}

#[repr(C)]
struct QgroupLimitArgs {
    qgroupid: u64,
    limit: QgroupLimit,
}

#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; SUBVOL_NAME_MAX + 1],
}

#[repr(C)]
struct QuotaCtl {
    cmd: u64,
    status: u64,
}

#[repr(C)]
struct QgroupCreate {
    create: u64,
    qgroupid: u64,
}

#[repr(C)]
struct InoLookup {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

const SNAP_DESTROY: libc::c_ulong = ioc(WRITE, 15, size_of::<VolArgs>());
const INO_LOOKUP: libc::c_ulong = ioc(WRITE | READ, 18, size_of::<InoLookup>());
const SUBVOL_CREATE_V2: libc::c_ulong = ioc(WRITE, 24, size_of::<VolArgsV2>());
const SNAP_CREATE_V2: libc::c_ulong = ioc(WRITE, 23, size_of::<VolArgsV2>());
const QUOTA_CTL: libc::c_ulong = ioc(WRITE | READ, 40, size_of::<QuotaCtl>());

const QGROUP_CREATE: libc::c_ulong = ioc(WRITE, 42, size_of::<QgroupCreate>());
const QGROUP_LIMIT: libc::c_ulong = ioc(READ, 43, size_of::<QgroupLimitArgs>());

fn put_name(to: &mut [u8], name: &str) -> io::Result<()> {
    let fits = name.len() < to.len() && !name.contains(['/', '\0']) && !name.is_empty();
    if !fits {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    to[..name.len()].copy_from_slice(name.as_bytes());
    Ok(())
}

/// How a file system counts what its subvolumes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// By who wrote an extent first: cheap (Linux 6.7).
    Simple,
    /// By who refers to an extent now: every transaction looks up what has changed.
    Full,
}

/// Turns on quotas; success if they are on, whichever kind they are of.
///
/// # Errors
/// `EINVAL` on kernels that lack them.
pub fn enable_quota(fs: BorrowedFd<'_>, quota: Quota) -> io::Result<()> {
    let cmd = match quota {
        Quota::Simple => QUOTA_CTL_ENABLE_SIMPLE,
        Quota::Full => QUOTA_CTL_ENABLE,
    };
    let mut args = QuotaCtl { cmd, status: 0 };
    // SAFETY: the ioctl reads and writes one `QuotaCtl` that lives through the call.
    check(unsafe { libc::ioctl(fs.as_raw_fd(), QUOTA_CTL, &mut args) }.into())?;
    Ok(())
}

/// Makes an empty subvolume `name` in `dir`.
///
/// # Errors
/// What `BTRFS_IOC_SUBVOL_CREATE_V2` reports; `AlreadyExists` if there is such a name.
pub fn create_subvolume(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let args = arguments(name)?;
    // SAFETY: the ioctl reads `args`, which lives through the call.
    check(unsafe { libc::ioctl(dir.as_raw_fd(), SUBVOL_CREATE_V2, &*args) }.into())?;
    Ok(())
}

fn arguments(name: &str) -> io::Result<Box<VolArgsV2>> {
    // SAFETY: the structure is plain data for which all zeroes is a valid value.
    let mut args: Box<VolArgsV2> = Box::new(unsafe { std::mem::zeroed() });
    put_name(&mut args.name, name)?;
    Ok(args)
}

/// Lets the subvolume that `fd` lies in hold no more than `bytes`.
///
/// # Errors
/// What `BTRFS_IOC_QGROUP_LIMIT` reports.
pub fn limit(fd: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    let limit = QgroupLimit {
        flags: QGROUP_LIMIT_MAX_RFER,
        max_referenced: bytes,
        max_exclusive: 0,
        rsv_referenced: 0,
        rsv_exclusive: 0,
    };
    // No group means the subvolume's own.
    let args = QgroupLimitArgs { qgroupid: 0, limit };
    // SAFETY: the ioctl reads one `QgroupLimitArgs` that lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), QGROUP_LIMIT, &args) }.into())?;
    Ok(())
}

/// Whether a snapshot can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// Makes `name` in `dir` a copy of the subvolume that `source` is the root of, at the cost of no data,
/// but of a commit of the file system. What was written before the call is in it.
///
/// # Errors
/// What `BTRFS_IOC_SNAP_CREATE_V2` reports; `AlreadyExists` if there is such a name.
pub fn snapshot(
    source: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &str,
    access: Access,
) -> io::Result<()> {
    let mut args = arguments(name)?;
    args.fd = source.as_raw_fd().into();
    if access == Access::ReadOnly {
        args.flags = SUBVOL_RDONLY;
    }
    // SAFETY: the ioctl reads `args`, which lives through the call.
    check(unsafe { libc::ioctl(dir.as_raw_fd(), SNAP_CREATE_V2, &*args) }.into())?;
    Ok(())
}

/// Deletes the subvolume `name` in `dir`; the kernel frees its space in the background.
///
/// # Errors
/// What `BTRFS_IOC_SNAP_DESTROY` reports; `NotFound` if there is none.
pub fn delete_subvolume(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: the structure is plain data for which all zeroes is a valid value.
    let mut args: Box<VolArgs> = Box::new(unsafe { std::mem::zeroed() });
    put_name(&mut args.name, name)?;
    // SAFETY: the ioctl reads one `VolArgs` that lives through the call.
    check(unsafe { libc::ioctl(dir.as_raw_fd(), SNAP_DESTROY, &*args) }.into())?;
    Ok(())
}

/// Removes the quota group of a subvolume that is deleted; Linux does it by itself since 6.11.
///
/// # Errors
/// What `BTRFS_IOC_QGROUP_CREATE` reports; `NotFound` if there is none.
pub fn remove_quota_group(fs: BorrowedFd<'_>, subvolume: u64) -> io::Result<()> {
    let args = QgroupCreate { create: 0, qgroupid: subvolume };
    // SAFETY: the ioctl reads one `QgroupCreate` that lives through the call.
    check(unsafe { libc::ioctl(fs.as_raw_fd(), QGROUP_CREATE, &args) }.into())?;
    Ok(())
}

/// `BTRFS_FIRST_FREE_OBJECTID`: the inode number of every subvolume's root directory.
pub const ROOT_DIR: u64 = 256;

/// The id of the subvolume that `fd` lies in: the second part of its quota group `0/<id>`.
///
/// # Errors
/// What `BTRFS_IOC_INO_LOOKUP` reports.
pub fn subvolume_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut args = Box::new(InoLookup { treeid: 0, objectid: ROOT_DIR, name: [0; 4080] });
    // SAFETY: the ioctl reads and writes one `InoLookup` that lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), INO_LOOKUP, &mut *args) }.into())?;
    Ok(args.treeid)
}
