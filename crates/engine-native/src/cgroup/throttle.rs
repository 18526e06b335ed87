//! How fast a sandbox may read from and write to the disks below it.
//!
//! The kernel counts per block device, so the limit names each disk that a sandbox can reach: the
//! one with the store and the one that holds its image. Version 1 sees what a process reads and what it
//! writes directly; buffered writes leave from the kernel's own threads there and are bounded by the
//! memory limit alone. Version 2 counts those too.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use soulbox_model::DiskRate;

/// A whole disk, as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Disk {
    major: u32,
    minor: u32,
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Disk {
    /// The disk that holds `path`; `None` for file systems without one, such as tmpfs or btrfs,
    /// whose files name no device.
    pub(crate) fn below(path: &Path) -> Option<Self> {
        Self::numbered(fs::metadata(path).ok()?.dev())
    }

    /// The disk that is, or is partitioned into, the block device at `path`.
    pub(crate) fn named(path: &Path) -> Option<Self> {
        Self::numbered(fs::metadata(path).ok()?.rdev())
    }

    fn numbered(device: u64) -> Option<Self> {
        let found = Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device) };
        let path = fs::canonicalize(format!("/sys/dev/block/{found}")).ok()?;
        // Limits are set on whole disks: a partition lies in the directory of its disk.
        if !path.join("partition").exists() {
            return Some(found);
        }
        let parent = fs::read_to_string(path.parent()?.join("dev")).ok()?;
        let (major, minor) = parent.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// The limit of one sandbox on the disks that it can reach.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throttle {
    disks: Vec<Disk>,
    rate: DiskRate,
}

impl Throttle {
    pub(crate) fn new(mut disks: Vec<Disk>, rate: DiskRate) -> Self {
        disks.sort_unstable();
        disks.dedup();
        Self { disks, rate }
    }

    /// Writes the four files of version 1 in the group at `path`.
    pub(super) fn write_v1(&self, path: &Path) -> io::Result<()> {
        let DiskRate { bytes, operations } = self.rate;
        for (file, limit) in [
            ("blkio.throttle.read_bps_device", bytes),
            ("blkio.throttle.write_bps_device", bytes),
            ("blkio.throttle.read_iops_device", operations),
            ("blkio.throttle.write_iops_device", operations),
        ] {
            let Some(limit) = limit else { continue };
            for disk in &self.disks {
                super::write(&path.join(file), format!("{disk} {limit}"))?;
            }
        }
        Ok(())
    }

    /// Writes `io.max` in the group at `path`.
    pub(super) fn write_v2(&self, path: &Path) -> io::Result<()> {
        let number = |limit: Option<u64>| limit.map_or_else(|| "max".into(), |n| n.to_string());
        let (bytes, operations) = (number(self.rate.bytes), number(self.rate.operations));
        for disk in self.disks.iter().filter(|_| !self.is_empty()) {
            let line =
                format!("{disk} rbps={bytes} wbps={bytes} riops={operations} wiops={operations}");
            super::write(&path.join("io.max"), line)?;
        }
        Ok(())
    }

    /// Whether there is nothing to limit.
    pub(super) fn is_empty(&self) -> bool {
        self.disks.is_empty() || self.rate == DiskRate::UNLIMITED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(rate: DiskRate) -> Throttle {
        let disk = |minor| Disk { major: 7, minor };
        Throttle::new(vec![disk(1), disk(0), disk(1)], rate)
    }

    #[test]
    fn each_disk_is_limited_once_in_the_kernels_words() {
        let group = tempfile::tempdir().unwrap();
        let throttle = throttle(DiskRate { bytes: Some(1000), operations: None });
        throttle.write_v2(group.path()).unwrap();
        let line = fs::read_to_string(group.path().join("io.max")).unwrap();
        assert_eq!(line, "7:1 rbps=1000 wbps=1000 riops=max wiops=max");
        throttle.write_v1(group.path()).unwrap();
        let file = |name: &str| fs::read_to_string(group.path().join(name));
        assert_eq!(file("blkio.throttle.write_bps_device").unwrap(), "7:1 1000");
        assert!(file("blkio.throttle.write_iops_device").is_err());
        assert_eq!(throttle.disks.len(), 2);
    }

    #[test]
    fn without_a_limit_nothing_is_written() {
        let group = tempfile::tempdir().unwrap();
        let throttle = throttle(DiskRate::UNLIMITED);
        assert!(throttle.is_empty());
        throttle.write_v2(group.path()).unwrap();
        throttle.write_v1(group.path()).unwrap();
        assert_eq!(fs::read_dir(group.path()).unwrap().count(), 0);
    }

    #[test]
    fn memory_is_no_disk() {
        assert_eq!(Disk::below(Path::new("/proc")), None);
    }
}
