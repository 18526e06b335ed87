//! What makes a sandbox tell itself from others: host name and machine id.

use std::{io, os::fd::BorrowedFd};

use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::layer::UPPER;

/// Writes the files of `/etc` into a fresh layer that no sandbox has seen yet.
pub(crate) fn write(layer: BorrowedFd<'_>, hostname: &str) -> io::Result<()> {
    let machine: u128 = rand::random();
    mkdirat(layer, format!("{UPPER}/etc"), Mode::from_raw_mode(0o755))?;
    let etc = |name: &str, text: &str| file(layer, &format!("{UPPER}/etc/{name}"), text);
    etc("hostname", &format!("{hostname}\n"))?;
    // Any address will do: whatever is asked, the host answers.
    etc("resolv.conf", "nameserver 10.0.2.3\n")?;
    etc("machine-id", &format!("{machine:032x}\n"))?;
    etc(
        "hosts",
        &format!(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n"
        ),
    )
}

fn file(directory: BorrowedFd<'_>, path: &str, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = openat(directory, path, flags, Mode::from_raw_mode(0o644))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o644))?;
    io::Write::write_all(&mut std::fs::File::from(fd), text.as_bytes())
}
