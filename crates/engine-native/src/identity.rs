//! What makes a sandbox tell itself from others: host name, machine id, boot id.

use std::{io, os::fd::BorrowedFd};

use rand::Rng;
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::layer::UPPER;

#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) hostname: String,
}

impl Identity {
    /// Name of the boot id's file, beside the directories of the layer.
    pub(crate) const BOOT_ID: &str = "boot_id";

    /// Writes the files of `/etc` into a fresh layer that no sandbox has seen yet.
    pub(crate) fn write(&self, layer: BorrowedFd<'_>) -> io::Result<()> {
        let mut random = [0; 32];
        rand::rng().fill_bytes(&mut random);
        let (machine, boot) = random.split_at(16);
        file(layer, Self::BOOT_ID, &uuid(boot))?;
        mkdirat(layer, format!("{UPPER}/etc"), Mode::from_raw_mode(0o755))?;
        let etc = |name: &str, text: &str| file(layer, &format!("{UPPER}/etc/{name}"), text);
        let name = &self.hostname;
        etc("hostname", &format!("{name}\n"))?;
        etc("machine-id", &format!("{}\n", hex(machine)))?;
        etc(
            "hosts",
            &format!(
                "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{name}\n"
            ),
        )
    }
}

fn file(directory: BorrowedFd<'_>, path: &str, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = openat(directory, path, flags, Mode::from_raw_mode(0o644))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o644))?;
    io::Write::write_all(&mut std::fs::File::from(fd), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random UUID in the form of `/proc/sys/kernel/random/boot_id`.
fn uuid(bytes: &[u8]) -> String {
    let mut text = hex(bytes);
    text.replace_range(12..13, "4");
    text.replace_range(16..17, "a");
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_a_version_4_uuid() {
        let text = uuid(&[0x5c; 16]);
        assert_eq!(text, "5c5c5c5c-5c5c-4c5c-ac5c-5c5c5c5c5c5c\n");
    }
}
