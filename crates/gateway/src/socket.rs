//! A client's TCP connection, as the gateway watches it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use soulbox_linger::{Socket, keep_alive};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// A client's connection, with what a long-lived one needs: no delay of small writes, and an end when
/// the other side silently vanished.
pub(crate) fn long_lived(stream: TcpStream) -> Socket {
    if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive(&stream)) {
        tracing::debug!(%error, "socket options");
    }
    Socket::new(stream)
}

/// The first byte that the client sends; it stays to be read.
pub(crate) async fn first_byte(socket: &Socket) -> io::Result<u8> {
    let mut byte = [0];
    match socket.stream().peek(&mut byte).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(byte[0]),
    }
}

/// Whether the client has closed its side, though what it sent before may still be unread.
fn is_closed_by_peer(socket: &Socket) -> bool {
    socket
        .now(Interest::READABLE)
        .is_some_and(|now| now.map_or(true, |ready| ready.is_read_closed()))
}

/// Whether the client's machine refused what was sent to it: nobody is there.
fn is_reset(socket: &Socket) -> bool {
    socket
        .now(Interest::WRITABLE)
        .is_some_and(|now| now.map_or(true, |ready| ready.is_write_closed()))
}

/// Resolves when the client has closed its side.
async fn closed_by_peer(socket: &Socket) {
    // What is unread keeps the socket readable.
    const AGAIN: Duration = Duration::from_millis(200);
    while let Ok(ready) = socket.stream().ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        sleep(AGAIN).await;
    }
}

/// What a connection is doing, for deciding when it has been idle or slow for too long.
pub(crate) struct Pulse {
    born: Instant,
    requests: AtomicUsize,
    /// HTTP/2 connections carry control frames while no request is on its way.
    multiplexed: AtomicBool,
    served: AtomicBool,
    /// Milliseconds after `born`: end of the last request.
    idle_since: AtomicU64,
    /// Milliseconds after `born` at which the next request began to arrive; 0 if it did not.
    arriving_since: AtomicU64,
    /// The client of an HTTP/1 request closed its side with it, and may wait for the answer.
    half_closed: AtomicBool,
    answering: AtomicBool,
    /// Milliseconds after `born`: begin of the last request.
    asked_at: AtomicU64,
    /// The client left before it was answered.
    pub left: Notify,
}

/// Who closes its side this soon after a request means that this was the request; later, that it left.
const WITH_REQUEST: Duration = Duration::from_millis(20);
/// How long an answer may take to begin for who closed its side: until something is sent, one that
/// waits and one that left look the same.
const HALF_CLOSED: Duration = Duration::from_secs(10);

impl Pulse {
    pub fn new() -> Self {
        Self {
            born: Instant::now(),
            requests: AtomicUsize::new(0),
            multiplexed: AtomicBool::new(false),
            served: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            arriving_since: AtomicU64::new(0),
            half_closed: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            asked_at: AtomicU64::new(0),
            left: Notify::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// A request's headers are complete; it is in flight until the answer is dropped.
    pub fn request(self: &Arc<Self>, multiplexed: bool) -> InFlight {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.served.store(true, Ordering::Relaxed);
        self.multiplexed.store(multiplexed, Ordering::Relaxed);
        self.arriving_since.store(0, Ordering::Relaxed);
        self.half_closed.store(false, Ordering::Relaxed);
        self.answering.store(false, Ordering::Relaxed);
        self.asked_at.store(self.now(), Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Waits for the answer to an HTTP/1 request, and tells when its client leaves.
    pub async fn until_answered<T>(&self, socket: &Socket, answer: impl Future<Output = T>) -> T {
        tokio::pin!(answer);
        let early = timeout(WITH_REQUEST, &mut answer).await;
        let half_closed = is_closed_by_peer(socket);
        self.half_closed.store(half_closed, Ordering::Relaxed);
        let answer = match early {
            Ok(answer) => answer,
            Err(_) if half_closed => answer.await,
            Err(_) => {
                tokio::select! {
                    biased;
                    answer = &mut answer => answer,
                    () = closed_by_peer(socket) => {
                        self.left.notify_one();
                        answer.await
                    }
                }
            }
        };
        self.answering.store(true, Ordering::Relaxed);
        answer
    }

    /// Whether nobody waits any more for what is being answered.
    pub fn is_left(&self, socket: &Socket) -> bool {
        if !self.is_busy() || !is_closed_by_peer(socket) {
            return false;
        }
        if self.is_multiplexed() || !self.half_closed.load(Ordering::Relaxed) {
            // Not yet known to have closed only its side: `until_answered` finds out.
            return self.is_multiplexed() || self.answering.load(Ordering::Relaxed);
        }
        if self.answering.load(Ordering::Relaxed) {
            return is_reset(socket);
        }
        let asked = self.asked_at.load(Ordering::Relaxed);
        u128::from(self.now().saturating_sub(asked)) > HALF_CLOSED.as_millis()
    }

    pub fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0
    }

    pub fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// Whether headers take longer than `header`, or nothing was asked for longer than `idle`.
    pub fn is_overdue(&self, header: Duration, idle: Duration) -> bool {
        if self.is_busy() {
            return false;
        }
        let late = |since: u64, limit: Duration| {
            u128::from(self.now().saturating_sub(since)) > limit.as_millis()
        };
        let arriving = self.arriving_since.load(Ordering::Relaxed);
        let slow = if self.served.load(Ordering::Relaxed) {
            arriving > 0 && !self.is_multiplexed() && late(arriving, header)
        } else {
            late(0, header)
        };
        slow || late(self.idle_since.load(Ordering::Relaxed), idle)
    }
}

/// One request in flight on a connection.
pub(crate) struct InFlight(Arc<Pulse>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let pulse = &self.0;
        pulse.idle_since.store(pulse.now(), Ordering::Relaxed);
        pulse.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Notes in a [`Pulse`] when bytes of a next request arrive.
pub(crate) struct Pulsed<T> {
    inner: T,
    pulse: Arc<Pulse>,
}

impl<T> Pulsed<T> {
    pub fn new(inner: T, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Pulsed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let pulse = &self.pulse;
        if !pulse.is_busy() && pulse.arriving_since.load(Ordering::Relaxed) == 0 {
            pulse.arriving_since.store(pulse.now(), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Pulsed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(3600);

    async fn wait() {
        tokio::time::advance(Duration::from_millis(40)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_request_must_come_soon() {
        let pulse = Arc::new(Pulse::new());
        assert!(!pulse.is_overdue(SHORT, LONG));
        wait().await;
        assert!(pulse.is_overdue(SHORT, LONG));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_never_overdue_and_then_its_time_starts_anew() {
        let pulse = Arc::new(Pulse::new());
        let (first, second) = (pulse.request(true), pulse.request(true));
        wait().await;
        drop(first);
        assert!(!pulse.is_overdue(SHORT, SHORT));
        drop(second);
        assert!(!pulse.is_overdue(SHORT, SHORT));
        wait().await;
        assert!(pulse.is_overdue(LONG, SHORT));
        assert!(!pulse.is_overdue(SHORT, LONG));
    }

    #[tokio::test(start_paused = true)]
    async fn a_next_request_that_arrives_slowly_is_overdue_before_an_idle_connection() {
        let pulse = Arc::new(Pulse::new());
        drop(pulse.request(false));
        let mut bytes = Pulsed::new(&b"GET "[..], Arc::clone(&pulse));
        wait().await;
        assert!(!pulse.is_overdue(SHORT, LONG));
        tokio::io::AsyncReadExt::read(&mut bytes, &mut [0; 4]).await.unwrap();
        wait().await;
        assert!(pulse.is_overdue(SHORT, LONG));
    }
}
