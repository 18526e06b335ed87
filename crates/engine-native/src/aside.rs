//! What is slow to close is closed by a thread that nobody waits for.
//!
//! The last descriptor of a mount that was never attached takes the mount with it, and the kernel waits
//! for a grace period to be sure that nobody looks at it any more: up to milliseconds on a busy
//! machine, for nothing that a sandbox needs.

use std::{
    io,
    os::fd::OwnedFd,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

/// Beyond these whoever has one closes it, so that descriptors cannot pile up.
const WAITING: usize = 128;

/// Takes descriptors to close.
#[derive(Debug)]
pub(crate) struct Aside(SyncSender<OwnedFd>);

impl Aside {
    /// Its thread ends with it.
    pub(crate) fn start() -> io::Result<Self> {
        let (give, take) = sync_channel(WAITING);
        thread::Builder::new()
            .name("closer".into())
            .spawn(move || take.into_iter().for_each(drop))?;
        Ok(Self(give))
    }

    pub(crate) fn close(&self, fds: impl IntoIterator<Item = OwnedFd>) {
        for fd in fds {
            // What is not taken comes back in the error, and is closed with it.
            let _ = self.0.try_send(fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::net::UnixStream,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn all_are_closed_however_many_come_at_once() {
        let aside = Aside::start().unwrap();
        let (mine, theirs): (Vec<_>, Vec<_>) =
            (0..WAITING * 2).map(|_| UnixStream::pair().unwrap()).unzip();
        aside.close(theirs.into_iter().map(OwnedFd::from));
        let began = Instant::now();
        for mut end in mine {
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            assert_eq!(end.read(&mut [0]).unwrap(), 0);
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
