//! Pseudo-terminals.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fcntl_getfl, fcntl_setfl},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcgetwinsize, tcsetwinsize},
};

/// Both ends of a terminal, closed on exec.
#[derive(Debug)]
pub struct Pty {
    /// The terminal emulator's end, non-blocking.
    pub master: OwnedFd,
    /// The end for the process, blocking.
    pub slave: OwnedFd,
}

/// Columns and rows of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cols: u16,
    pub rows: u16,
}

impl From<Size> for Winsize {
    fn from(size: Size) -> Self {
        Self { ws_col: size.cols, ws_row: size.rows, ws_xpixel: 0, ws_ypixel: 0 }
    }
}

/// Makes a terminal of that size; its device node belongs to `owner`, as programs like `screen` need.
///
/// # Errors
/// There is no devpts file system, or no terminal is free.
pub fn open(size: Size, owner: u32) -> io::Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    resize(&master, size)?;
    fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
    // The process has the open descriptor anyway, so a refusal only matters to a few programs.
    let _ = fchown(&slave, Some(Uid::from_raw(owner)), None::<Gid>);
    let _ = fchmod(&slave, Mode::RUSR | Mode::WUSR | Mode::WGRP);
    Ok(Pty { master, slave })
}

/// Changes the size; the kernel tells the foreground processes by `SIGWINCH`.
///
/// # Errors
/// The descriptor is not a terminal.
pub fn resize(terminal: impl AsFd, size: Size) -> io::Result<()> {
    Ok(tcsetwinsize(terminal, size.into())?)
}

/// The size that programs in the terminal see.
///
/// # Errors
/// The descriptor is not a terminal.
pub fn size(terminal: impl AsFd) -> io::Result<Size> {
    let size = tcgetwinsize(terminal)?;
    Ok(Size { cols: size.ws_col, rows: size.ws_row })
}

#[cfg(test)]
mod tests {
    use rustix::io::{read, write};

    use super::*;

    #[test]
    fn what_goes_in_at_one_end_comes_out_at_the_other() {
        let pty = open(Size { cols: 80, rows: 24 }, 0).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(
            read(&pty.master, &mut buffer).unwrap_err(),
            rustix::io::Errno::AGAIN,
            "the master must not block"
        );
        write(&pty.slave, b"hello\n").unwrap();
        let read = read(&pty.master, &mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"hello\r\n");
    }

    #[test]
    fn both_ends_see_a_new_size() {
        let pty = open(Size { cols: 80, rows: 24 }, 0).unwrap();
        resize(&pty.master, Size { cols: 20, rows: 10 }).unwrap();
        assert_eq!(size(&pty.slave).unwrap(), Size { cols: 20, rows: 10 });
    }
}
