//! Moving bytes between two connections.
//!
//! An idle flow has no buffer. What moves goes through one that lives as long as it moves; a direction
//! that keeps filling it goes through a pipe instead, which hands pages on without copying them.

use std::{io, os::fd::OwnedFd, time::Duration};

use bytes::BufMut;
use rustix::{
    net::Shutdown,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::traffic::{Meter, Way};

const BUFFER: usize = 16 * 1024;
/// So many full buffers one after the other are a bulk transfer.
const FULL: u32 = 8;
/// What a pipe holds, in bytes: a place for each page. That is no memory of anybody's, and the reason why
/// pipes are few.
const PIPED: usize = 256 * 1024;
/// The same of a long transfer, which takes a third less of the processor that way. Not from the beginning:
/// the kernel's own buffers grow with it, also those of flows that nobody reads.
const WIDE: usize = 1024 * 1024;
/// Bytes after which a transfer is a long one; more than the buffers of a flow that nobody reads take.
const LONG: usize = 32 * 1024 * 1024;
/// A pipe that nothing comes through for so long is given back.
const QUIET: Duration = Duration::from_millis(200);

/// Pipes that may be in use at a time.
#[derive(Debug)]
pub(crate) struct Pipes(Semaphore);

impl Pipes {
    pub(crate) fn new(most: usize) -> Self {
        Self(Semaphore::new(most))
    }
}

/// A pipe, and its turns among those of one sandbox and of the server.
struct Pipe<'a> {
    into: OwnedFd,
    out: OwnedFd,
    _turns: [SemaphorePermit<'a>; 2],
}

/// Where one direction stands.
enum State {
    /// Nothing more comes for now.
    Quiet,
    /// More comes than the buffer takes at once.
    Bulk,
    /// Its sender is done.
    Ended,
}

/// Carries bytes both ways until both ends are done.
pub(crate) async fn both_ways(
    inside: &TcpStream,
    outside: &TcpStream,
    pipes: [&Pipes; 2],
    meter: &Meter,
) -> io::Result<()> {
    tokio::try_join!(
        one_way(inside, outside, pipes, (meter, Way::Sent)),
        one_way(outside, inside, pipes, (meter, Way::Received)),
    )
    .map(drop)
}

/// Where bytes of one direction are counted.
type Count<'a> = (&'a Meter, Way);

async fn one_way(
    from: &TcpStream,
    to: &TcpStream,
    pipes: [&Pipes; 2],
    count: Count<'_>,
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut state = by_buffer(from, to, count).await?;
        if let (State::Bulk, Some(pipe)) = (&state, Pipe::open(pipes)) {
            state = pipe.carry(from, to, count).await?;
        }
        if let State::Ended = state {
            break;
        }
    }
    // Who has gone already needs no end.
    let _ = rustix::net::shutdown(to, Shutdown::Write);
    Ok(())
}

async fn by_buffer(from: &TcpStream, to: &TcpStream, (meter, way): Count<'_>) -> io::Result<State> {
    let mut buffer = Vec::with_capacity(BUFFER);
    for full in 0.. {
        buffer.clear();
        let read = |most| from.try_read_buf(&mut (&mut buffer).limit(most));
        match meter.read(way, BUFFER, read) {
            Ok(0) => return Ok(State::Ended),
            Ok(_) => send(to, &buffer).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(State::Quiet),
            Err(error) => return Err(error),
        }
        if buffer.len() < buffer.capacity() {
            break;
        }
        if full == FULL {
            return Ok(State::Bulk);
        }
    }
    Ok(State::Quiet)
}

async fn send(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl<'a> Pipe<'a> {
    /// None if all are in use, or if the server has no more descriptors: a buffer does as well.
    fn open([first, second]: [&'a Pipes; 2]) -> Option<Self> {
        let turns = [first.0.try_acquire().ok()?, second.0.try_acquire().ok()?];
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // A smaller one, where the kernel grants no more, only takes more turns.
        let _ = fcntl_setpipe_size(&into, PIPED);
        Some(Self { into, out, _turns: turns })
    }

    async fn carry(
        &self,
        from: &TcpStream,
        to: &TcpStream,
        (meter, way): Count<'_>,
    ) -> io::Result<State> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let (mut most, mut carried) = (PIPED, 0);
        loop {
            // The pipe is empty here: what would block is the connection.
            let fill = from.async_io(Interest::READABLE, || {
                let fill = |most| Ok(splice(from, None, &self.into, None, most, flags)?);
                meter.read(way, most, fill)
            });
            let Ok(filled) = timeout(QUIET, fill).await else { return Ok(State::Quiet) };
            let mut left = filled?;
            if left == 0 {
                return Ok(State::Ended);
            }
            carried += left;
            while left > 0 {
                let drain = || Ok(splice(&self.out, None, to, None, left, flags)?);
                left -= to.async_io(Interest::WRITABLE, drain).await?;
            }
            if most < WIDE && carried > LONG {
                most = WIDE;
                let _ = fcntl_setpipe_size(&self.into, WIDE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{Target, traffic::Place};

    fn meter() -> Meter {
        let (target, place) = (Target::default(), Place::default());
        Meter::begin(&Arc::default(), "tcp", target, place, "default".to_owned())
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// Sends `length` bytes in parts of `part` and an end, through a carried flow and back.
    async fn there_and_back(length: usize, part: usize, pipes: usize) {
        let (client, inside) = pair().await;
        let (outside, server) = pair().await;
        tokio::spawn(async move {
            let (few, many) = (Pipes::new(pipes), Pipes::new(pipes));
            let meter = meter();
            both_ways(&inside, &outside, [&few, &many], &meter).await.unwrap();
            assert_eq!((few.0.available_permits(), many.0.available_permits()), (pipes, pipes));
        });
        let (mut back, mut forth) = server.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut back, &mut forth).await.unwrap() });
        let data: Vec<u8> = (0..length).map(|n| ((n * 31) >> 3) as u8).collect();
        let (mut back, mut forth) = client.into_split();
        let sent = data.clone();
        tokio::spawn(async move {
            for part in sent.chunks(part) {
                forth.write_all(part).await.unwrap();
            }
        });
        let mut got = Vec::new();
        back.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), data.len());
        assert!(got == data, "{length} bytes in parts of {part} with {pipes} pipes");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_byte_arrives_and_so_does_the_end() {
        for pipes in [0, 1, 2] {
            for (length, part) in [(0, 1), (1, 1), (5000, 7), (48 << 20, 1 << 20), (3 << 20, 9999)]
            {
                there_and_back(length, part, pipes).await;
            }
        }
    }

    #[tokio::test]
    async fn who_goes_away_ends_the_flow() {
        let (client, inside) = pair().await;
        let (outside, mut server) = pair().await;
        client.set_zero_linger().unwrap();
        drop(client);
        let pipes = Pipes::new(1);
        assert!(both_ways(&inside, &outside, [&pipes, &pipes], &meter()).await.is_err());
        drop((inside, outside));
        assert_eq!(server.read(&mut [0]).await.unwrap_or(0), 0);
    }
}
