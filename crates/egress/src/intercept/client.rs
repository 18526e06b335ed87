//! A client's connection: as it is served, and whether somebody still waits at its other end.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{io::ioctl_fionread, net::sockopt::set_tcp_quickack};
use soulbox_linger::Socket;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
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
pub(super) struct Client {
    socket: Socket,
    moments: Arc<Mutex<Moments>>,
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
        let moments = Arc::new(Mutex::new(Moments { heard: now, moved: now }));
        Self { socket: Socket::new(stream), moments }
    }

    /// Tells the client at once that its last word arrived: where nothing follows it, its next one may wait
    /// for that.
    pub(super) fn acknowledge(&self) -> io::Result<()> {
        Ok(set_tcp_quickack(self.socket.stream(), true)?)
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
            match self.socket.now(Interest::READABLE) {
                None => {
                    let _ = self.socket.stream().ready(Interest::READABLE).await;
                    open = Instant::now();
                }
                // What is unread keeps it ready.
                Some(Ok(ready)) if !ready.is_read_closed() => {
                    open = Instant::now();
                    let heard = self.moments.lock().heard;
                    sleep(if heard.elapsed() < LOOK { SOON } else { LOOK }).await;
                }
                Some(_) => return open,
            }
        }
    }

    /// Whether the close was no part of a request.
    fn is_late(&self, closed: Instant) -> bool {
        let unread = ioctl_fionread(self.socket.stream()).is_ok_and(|bytes| bytes > 0);
        !unread && closed > self.moments.lock().heard + WITH_REQUEST
    }

    /// Whether nothing moves any more, or its machine refused what was sent: nobody is there.
    fn is_still(&self, closed: Instant) -> bool {
        match self.socket.now(Interest::WRITABLE) {
            Some(Ok(ready)) if !ready.is_write_closed() => {
                self.moments.lock().moved.max(closed).elapsed() > HALF_CLOSED
            }
            Some(_) => true,
            // It reads slowly.
            None => {
                self.moments.lock().moved = Instant::now();
                false
            }
        }
    }

    fn moved(&self, heard: bool) {
        let now = Instant::now();
        let mut moments = self.moments.lock();
        moments.moved = now;
        if heard {
            moments.heard = now;
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.moved(true);
        }
        Poll::Ready(Ok(()))
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
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, parts))?;
        self.moved(false);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
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
        client.moments.lock().moved = before;
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
        client.moments.lock().moved = before;
        assert!(!client.is_still(before));
    }
}
