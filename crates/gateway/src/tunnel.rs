//! Upgraded connections: bytes both ways until both sides are done.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    time::{MissedTickBehavior, interval},
};

const BUFFER: usize = 16 * 1024;
/// After the sandbox's side ended, how long the client may keep its side open without sending. An
/// open socket would hold the network of a sandbox that is gone.
const HALF_CLOSED: Duration = Duration::from_secs(60);

/// Copies until both directions ended or one failed. The end of one direction is passed on, the
/// other goes on.
pub(crate) async fn join(client: Upgraded, sandbox: Upgraded) -> io::Result<()> {
    let mut client = TokioIo::new(client);
    let progress = Progress::default();
    let mut sandbox = Watched { inner: TokioIo::new(sandbox), progress: &progress };
    let copy = copy_bidirectional_with_sizes(&mut client, &mut sandbox, BUFFER, BUFFER);
    tokio::pin!(copy);
    let mut tick = interval(HALF_CLOSED);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tokio::select! {
            result = &mut copy => return result.map(drop),
            _ = tick.tick() => {
                let now = progress.ended.load(Ordering::Relaxed)
                    .then(|| progress.written.load(Ordering::Relaxed));
                if now.is_some() && now == last {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                last = now;
            }
        }
    }
}

#[derive(Default)]
struct Progress {
    /// The sandbox will send no more.
    ended: AtomicBool,
    /// Bytes that went into the sandbox.
    written: AtomicU64,
}

struct Watched<'a, T> {
    inner: T,
    progress: &'a Progress,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() == before {
            self.progress.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.progress.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
