//! A client's connection: as it is served, and whether somebody still waits at its other end.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{
    io::{Errno, ioctl_fionread},
    net::{Shutdown, sockopt::set_tcp_quickack},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready},
    net::TcpStream,
    time::{Instant, sleep},
};

/// Who closes its side this soon after its last bytes has asked all it wants; later, it left.
const WITH_REQUEST: Duration = Duration::from_millis(50);
/// How long nothing may move for who closed its side: until something is sent, one that waits and one
/// that left look the same.
const HALF_CLOSED: Duration = Duration::from_secs(10);
/// How often is looked for a close behind bytes that are unread, and just after some were read.
const LOOK: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_millis(20);

/// A connection that can be watched while hyper owns it.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    stream: TcpStream,
    moments: Mutex<Moments>,
}

#[derive(Clone, Copy)]
struct Moments {
    /// When bytes last came.
    heard: Instant,
    /// When they last came or went.
    moved: Instant,
}

impl Client {
    pub(super) fn new(stream: TcpStream) -> Self {
        let now = Instant::now();
        let moments = Mutex::new(Moments { heard: now, moved: now });
        Self(Arc::new(Inner { stream, moments }))
    }

    /// Tells the client at once that its last word arrived: where nothing follows it, its next one may wait
    /// for that.
    pub(super) fn acknowledge(&self) -> io::Result<()> {
        Ok(set_tcp_quickack(&self.0.stream, true)?)
    }

    /// Resolves when nobody waits any more for what was asked.
    pub(super) async fn left(&self) {
        let closed = self.closed().await;
        while !self.is_late(closed) && !self.is_still(closed) {
            sleep(LOOK).await;
        }
    }

    /// Resolves when the client closed its side and nothing came of that, where requests are no more.
    pub(super) async fn hung(&self) {
        let closed = self.closed().await;
        while !self.is_still(closed) {
            sleep(LOOK).await;
        }
    }

    /// When the client closed its side: no later than that, nor much earlier.
    async fn closed(&self) -> Instant {
        let mut open = Instant::now();
        loop {
            match self.state(Interest::READABLE) {
                Poll::Pending => {
                    let _ = self.0.stream.ready(Interest::READABLE).await;
                    open = Instant::now();
                }
                // What is unread keeps it ready.
                Poll::Ready(Ok(ready)) if !ready.is_read_closed() => {
                    open = Instant::now();
                    let heard = self.0.moments.lock().heard;
                    sleep(if heard.elapsed() < LOOK { SOON } else { LOOK }).await;
                }
                Poll::Ready(_) => return open,
            }
        }
    }

    /// Whether the close was no part of a request.
    fn is_late(&self, closed: Instant) -> bool {
        let unread = ioctl_fionread(&self.0.stream).is_ok_and(|bytes| bytes > 0);
        !unread && closed > self.0.moments.lock().heard + WITH_REQUEST
    }

    /// Whether nothing moves any more, or its machine refused what was sent: nobody is there.
    fn is_still(&self, closed: Instant) -> bool {
        match self.state(Interest::WRITABLE) {
            Poll::Ready(Ok(ready)) if !ready.is_write_closed() => {
                self.0.moments.lock().moved.max(closed).elapsed() > HALF_CLOSED
            }
            Poll::Ready(_) => true,
            // It reads slowly.
            Poll::Pending => {
                self.0.moments.lock().moved = Instant::now();
                false
            }
        }
    }

    fn state(&self, interest: Interest) -> Poll<io::Result<Ready>> {
        let ready = pin!(self.0.stream.ready(interest));
        ready.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn moved(&self, heard: bool) {
        let now = Instant::now();
        let mut moments = self.0.moments.lock();
        moments.moved = now;
        if heard {
            moments.heard = now;
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(context))?;
            match self.0.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    if result.as_ref().is_ok_and(|read| *read > 0) {
                        self.moved(true);
                    }
                    return Poll::Ready(result.map(drop));
                }
            }
        }
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(context))?;
            match self.0.stream.try_write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    if result.is_ok() {
                        self.moved(false);
                    }
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&self.0.stream, Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    async fn connected() -> (TcpStream, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (stream, Client::new(listener.accept().await.unwrap().0))
    }

    /// One that sent `bytes`, all of which were read.
    async fn asking(bytes: &[u8]) -> (TcpStream, Client) {
        let (mut stream, mut client) = connected().await;
        stream.write_all(bytes).await.unwrap();
        client.read_exact(&mut vec![0; bytes.len()]).await.unwrap();
        (stream, client)
    }

    async fn leaves_within(client: &Client, limit: Duration) -> bool {
        timeout(limit, client.left()).await.is_ok()
    }

    #[tokio::test]
    async fn who_closes_later_than_it_asked_left() {
        let (stream, client) = asking(b"request").await;
        let watched = client.clone();
        let left = tokio::spawn(async move { leaves_within(&watched, HALF_CLOSED / 2).await });
        sleep(WITH_REQUEST * 2).await;
        assert!(!left.is_finished());
        drop(stream);
        assert!(left.await.unwrap());
    }

    #[tokio::test]
    async fn who_closes_its_side_with_the_request_waits_for_a_while() {
        let (mut stream, client) = asking(b"request").await;
        stream.shutdown().await.unwrap();
        assert!(!leaves_within(&client, LOOK * 3).await);
        let closed = Instant::now();
        assert!(!client.is_late(closed - LOOK * 3) && !client.is_still(closed));
        let before = closed - HALF_CLOSED - LOOK;
        client.0.moments.lock().moved = before;
        assert!(client.is_still(before), "nothing moved for so long");
    }

    #[tokio::test]
    async fn what_is_unread_before_the_close_is_part_of_the_request() {
        let (mut stream, client) = asking(b"request").await;
        sleep(WITH_REQUEST * 2).await;
        stream.write_all(b"body").await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(!leaves_within(&client, LOOK * 3).await);
        client.clone().read_exact(&mut [0; 4]).await.unwrap();
        assert!(!leaves_within(&client, LOOK * 3).await);
    }

    #[tokio::test]
    async fn who_resets_is_gone_at_once_also_where_there_are_no_requests() {
        let (stream, client) = asking(b"request").await;
        stream.set_zero_linger().unwrap();
        drop(stream);
        assert!(timeout(HALF_CLOSED / 2, client.left()).await.is_ok());
        assert!(timeout(HALF_CLOSED / 2, client.hung()).await.is_ok());
    }

    #[tokio::test]
    async fn who_reads_slowly_is_there() {
        let (mut stream, mut client) = asking(b"request").await;
        stream.shutdown().await.unwrap();
        let full = async { while client.write(&[0; 65536]).await.is_ok() {} };
        assert!(timeout(LOOK, full).await.is_err());
        let before = Instant::now() - HALF_CLOSED - LOOK;
        client.0.moments.lock().moved = before;
        assert!(!client.is_still(before));
    }
}
