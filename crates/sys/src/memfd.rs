//! Programs and files that exist in memory only.

use std::{ffi::CStr, io, io::Write, os::fd::OwnedFd, thread, time::Duration};

use rustix::{
    fs::{MemfdFlags, Mode, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};

/// An executable memory file with `content` that nobody can change any more.
///
/// It has no path, so nothing inside a sandbox that runs it can replace it.
///
/// # Errors
/// What `memfd_create(2)`, `write(2)` and `fcntl(2)` report.
pub fn sealed(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag and make every memfd executable.
    let fd = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(content)?;
    // The seals suffice; with this mode it cannot even be opened for writing by who is not its owner.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o555))?;
    let fd = OwnedFd::from(file);
    seal(&fd)?;
    Ok(fd)
}

/// Forbids every change. The kernel refuses with `EBUSY` while anybody holds a page of the file, which on
/// a busy machine another processor does for a while after the write: `memfd_wait_for_pins` in mm/memfd.c.
fn seal(file: &OwnedFd) -> io::Result<()> {
    const TRIES: u32 = 20;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    for _ in 1..TRIES {
        match fcntl_add_seals(file, seals) {
            Err(Errno::BUSY) => thread::sleep(Duration::from_millis(25)),
            other => return Ok(other?),
        }
    }
    Ok(fcntl_add_seals(file, seals)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_cannot_be_written() {
        let fd = sealed(c"test", b"content").unwrap();
        assert!(rustix::io::pwrite(&fd, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&fd, 1).is_err());
        assert_eq!(rustix::fs::fstat(&fd).unwrap().st_mode & 0o777, 0o555);
    }
}
