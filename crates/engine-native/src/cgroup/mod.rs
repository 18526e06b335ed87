//! Control groups: the limits that hold, on version 1 and version 2 alike.
//!
//! Each sandbox slot has one group per hierarchy, below `soulbox/<instance>`. Start with
//! [`Cgroups`]; [`detect`] chooses the version that has the controllers.

mod throttle;
mod v1;
mod v2;

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use soulbox_engine::Usage;
use soulbox_model::Resources;
pub(crate) use throttle::{Disk, Throttle};
pub(crate) use v1::V1;
pub(crate) use v2::V2;

use crate::at::at;

/// How the CPU limit is enforced: short periods, so that a throttled sandbox waits at most this long.
const CPU_PERIOD_US: u64 = 20_000;

/// CPU time in each period, in microseconds; the kernel takes no less than a millisecond.
fn quota_us(resources: &Resources) -> u64 {
    (u64::from(resources.cpu_millis) * CPU_PERIOD_US / 1000).max(1000)
}

/// What a new process needs to put itself into a group.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    pub(crate) v1: Vec<OwnedFd>,
    pub(crate) v2: Option<OwnedFd>,
}

impl Membership {
    pub(crate) fn v1(&self) -> Vec<BorrowedFd<'_>> {
        self.v1.iter().map(AsFd::as_fd).collect()
    }
}

/// One way to group processes and limit what they use.
pub(crate) trait Cgroups: Send + Sync + std::fmt::Debug {
    fn version(&self) -> u8;

    /// Makes the group `name`; one of that name must not exist.
    fn create(&self, name: &str) -> io::Result<Membership>;

    fn limit(&self, name: &str, resources: &Resources) -> io::Result<()>;

    /// The limits as the kernel's files have them, by their paths below `/sys/fs/cgroup` in a namespace of its own.
    fn files(&self, resources: &Resources) -> Vec<(&'static str, String)>;

    /// CPU, memory, processes and OOM kills; the disk is not a cgroup's to count.
    fn usage(&self, name: &str) -> io::Result<Usage>;

    /// Kills whatever is in the group.
    fn kill(&self, name: &str) -> io::Result<()>;

    /// Removes the group; success if there is none, `ResourceBusy` while something is in it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The groups that exist, from an earlier run too.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Where this server's groups are, one directory for each hierarchy.
    fn parents(&self) -> Vec<&Path>;

    /// Removes the parents that are empty, as at the end of a server without sandboxes.
    fn close(&self) {
        for parent in self.parents() {
            let _ = fs::remove_dir(parent);
            let _ = parent.parent().map(fs::remove_dir);
        }
    }
}

/// Finds the hierarchy that has the controllers and makes the parent group of `instance` in it; its
/// groups get `throttle` where the kernel can.
///
/// # Errors
/// A text that says which controller is missing.
pub(crate) fn detect(
    root: &Path,
    instance: &str,
    throttle: Throttle,
) -> io::Result<Box<dyn Cgroups>> {
    match V2::open(root, instance, throttle.clone()) {
        Ok(v2) => Ok(Box::new(v2)),
        Err(v2) => V1::open(root, instance, throttle)
            .map(|v1| Box::new(v1) as Box<dyn Cgroups>)
            .map_err(|v1| io::Error::other(format!("version 1: {v1}; version 2: {v2}"))),
    }
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned())
}

fn read_number(path: &Path) -> io::Result<u64> {
    read(path)?.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The number behind `key` in a file of `key number` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

fn write(path: &Path, value: impl AsRef<[u8]>) -> io::Result<()> {
    fs::write(path, value).map_err(|error| at(path, error))
}

fn mkdir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(path, error)),
        _ => Ok(()),
    }
}

fn rmdir(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn directories(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

fn kill_listed(path: &Path) -> io::Result<()> {
    for line in fs::read_to_string(path)?.lines() {
        let pid = line.parse().ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    Ok(())
}

fn open_for_writing(path: &Path) -> io::Result<OwnedFd> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .map(OwnedFd::from)
        .map_err(|error| at(path, error))
}
