//! The agent's end of a terminal.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    time::Duration,
};

use soulbox_sys::pty;
use tokio::{io::unix::AsyncFd, sync::Mutex, time::sleep};

use super::input::write_all;

/// How often and how late a new size is looked at again: after 1, 2, 4, … ms, a quarter of a second in all.
const LOOKS: u32 = 8;

/// Where the input of a process with a terminal goes.
#[derive(Debug)]
pub(super) struct Terminal {
    master: Arc<AsyncFd<OwnedFd>>,
    /// Whole messages go in one after the other.
    turn: Mutex<()>,
    /// The size that was asked for last; held while it is set.
    size: Arc<parking_lot::Mutex<pty::Size>>,
}

impl Terminal {
    pub(super) fn new(master: Arc<AsyncFd<OwnedFd>>, size: pty::Size) -> Self {
        Self { master, turn: Mutex::new(()), size: Arc::new(parking_lot::Mutex::new(size)) }
    }

    /// Writes all of it, waiting while the process does not read.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let _turn = self.turn.lock().await;
        write_all(&self.master, bytes).await
    }

    /// Changes the size, and sees to it that it stays.
    ///
    /// Before each prompt, readline (of bash, Python and many more) reads the size and sets what it read; a new size
    /// that comes between the two would be lost.
    pub(super) fn resize(&self, new: pty::Size) -> io::Result<()> {
        let mut size = self.size.lock();
        let old = pty::size(self.master.get_ref())?;
        pty::resize(self.master.get_ref(), new)?;
        *size = new;
        if old != new {
            let (master, size) = (Arc::downgrade(&self.master), Arc::clone(&self.size));
            tokio::spawn(keep(master, size, old, new));
        }
        Ok(())
    }
}

/// Sets `new` again where `old` has come back; any other size is a program's own wish.
async fn keep(
    master: Weak<AsyncFd<OwnedFd>>,
    size: Arc<parking_lot::Mutex<pty::Size>>,
    old: pty::Size,
    new: pty::Size,
) {
    for look in 0..LOOKS {
        sleep(Duration::from_millis(1 << look)).await;
        let Some(master) = master.upgrade() else { return };
        let size = size.lock();
        if *size != new {
            return;
        }
        if pty::size(master.get_ref()).is_ok_and(|now| now == old) {
            let _ = pty::resize(master.get_ref(), new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: pty::Size = pty::Size { cols: 80, rows: 24 };
    const NEW: pty::Size = pty::Size { cols: 100, rows: 30 };

    fn terminal() -> (Terminal, OwnedFd) {
        let pty = pty::open(OLD, 0).unwrap();
        let master = super::super::command::registered(pty.master).unwrap();
        (Terminal::new(Arc::new(master), OLD), pty.slave)
    }

    #[tokio::test]
    async fn a_prompt_that_restores_the_old_size_does_not_win() {
        let (terminal, slave) = terminal();
        let read = pty::size(&slave).unwrap();
        terminal.resize(NEW).unwrap();
        pty::resize(&slave, read).unwrap();
        sleep(Duration::from_millis(50)).await;
        assert_eq!(pty::size(&slave).unwrap(), NEW);
    }

    #[tokio::test]
    async fn a_size_that_a_program_sets_stays() {
        let (terminal, slave) = terminal();
        let own = pty::Size { cols: 132, rows: 43 };
        terminal.resize(NEW).unwrap();
        pty::resize(&slave, own).unwrap();
        sleep(Duration::from_millis(50)).await;
        assert_eq!(pty::size(&slave).unwrap(), own);
    }

    #[tokio::test]
    async fn of_two_sizes_the_later_stays() {
        let (terminal, slave) = terminal();
        terminal.resize(NEW).unwrap();
        terminal.resize(OLD).unwrap();
        sleep(Duration::from_millis(50)).await;
        assert_eq!(pty::size(&slave).unwrap(), OLD);
    }
}
