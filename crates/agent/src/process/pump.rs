//! The life of a started process: its output, its time limit, its end.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rustix::{io::Errno, process::Signal};
use tokio::{
    io::unix::{AsyncFd, AsyncFdReadyGuard},
    time::{Instant, sleep_until},
};

use super::{
    exit::End,
    output::{Chunk, Fanout, Undelivered},
    table::Started,
};
use crate::{State, log::Level};

/// How much is still read from a killed process whose output others hold open, in bytes: at
/// least what a pipe holds.
const MAX_DRAIN: usize = 1 << 20;
/// The longest time limit; more is as good as none.
const MAX_LIMIT: Duration = Duration::from_secs(10 * 365 * 86400);

/// What a process writes to.
#[derive(Debug)]
pub(super) enum Outputs {
    Pipes { stdout: AsyncFd<OwnedFd>, stderr: AsyncFd<OwnedFd> },
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

/// One open end of an output.
#[derive(Debug)]
struct Source {
    fd: Arc<AsyncFd<OwnedFd>>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stdout,
    Stderr,
    Terminal,
}

/// What came out of one read.
#[derive(Debug)]
enum Read {
    Chunk {
        chunk: Chunk,
        /// Certainly nothing more before the next wake-up.
        drained: bool,
    },
    Nothing,
    /// End of file, or a terminal that nobody has open any more.
    End,
}

impl Source {
    fn read(&self) -> Read {
        let mut buffer = [MaybeUninit::uninit(); 32 << 10];
        let space = match self.kind {
            Kind::Terminal => &mut buffer[..16 << 10],
            _ => &mut buffer[..],
        };
        let size = space.len();
        let bytes = match rustix::io::read(self.fd.as_fd(), space) {
            Ok(([], _)) => return Read::End,
            Ok((bytes, _)) => Bytes::copy_from_slice(bytes),
            Err(Errno::AGAIN | Errno::INTR) => return Read::Nothing,
            Err(_) => return Read::End,
        };
        // A pipe gives all that it has; a terminal may keep some back.
        let drained = bytes.len() < size && self.kind != Kind::Terminal;
        let chunk = match self.kind {
            Kind::Stdout => Chunk::Stdout(bytes),
            Kind::Stderr => Chunk::Stderr(bytes),
            Kind::Terminal => Chunk::Terminal(bytes),
        };
        Read::Chunk { chunk, drained }
    }
}

impl Outputs {
    fn sources(self) -> [Option<Source>; 2] {
        let source = |fd, kind| Some(Source { fd, kind });
        match self {
            Self::Pipes { stdout, stderr } => {
                [source(Arc::new(stdout), Kind::Stdout), source(Arc::new(stderr), Kind::Stderr)]
            }
            Self::Terminal(fd) => [source(fd, Kind::Terminal), None],
        }
    }
}

/// Follows the process to its end; `limit` is how long it may live.
pub(super) async fn run(
    state: Arc<State>,
    started: Started,
    outputs: Outputs,
    limit: Option<Duration>,
) {
    let Started { id, process, mut exit } = started;
    let mut sources = outputs.sources();
    let mut deadline = limit.map(|limit| Instant::now() + limit.min(MAX_LIMIT));
    let mut status = None;
    let mut ended_by_signal = false;
    let mut undelivered: Option<Undelivered> = None;
    let status = loop {
        let open = sources.iter().any(Option::is_some) || undelivered.is_some();
        if let Some(status) = status
            && (ended_by_signal || !open)
        {
            break status;
        }
        let [first, second] = &sources;
        let reading = undelivered.is_none();
        let (index, ready) = tokio::select! {
            ready = readable(first), if reading && first.is_some() => (0, ready),
            ready = readable(second), if reading && second.is_some() => (1, ready),
            () = deliver(&mut undelivered), if !reading => {
                undelivered = None;
                continue;
            }
            exited = &mut exit, if status.is_none() => {
                // Not told any more: the table, and with it the agent, is going away.
                let Ok(exited) = exited else { return };
                status = Some(exited);
                continue;
            }
            () = process.ended_by_signal.notified(), if !ended_by_signal => {
                ended_by_signal = true;
                continue;
            }
            () = expired(deadline), if deadline.is_some() => {
                deadline = None;
                let _ = process.signal(Signal::KILL);
                continue;
            }
        };
        match take(ready, &sources[index]) {
            Read::Chunk { chunk, .. } => undelivered = process.output.offer(chunk),
            Read::Nothing => {}
            Read::End => sources[index] = None,
        }
    };
    if ended_by_signal {
        for source in sources.iter().flatten() {
            drain(source, &process.output);
        }
    }
    let end = End::from(status);
    state.log.add(
        Level::Info,
        "process ended",
        [("pid", process.pid.to_string()), ("status", end.status.clone())],
    );
    // First out of the table: who saw the end must not find the process there.
    state.processes.finish(id, end.clone());
    process.output.end(end);
}

async fn readable(source: &Option<Source>) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
    match source {
        Some(source) => source.fd.readable().await,
        None => std::future::pending().await,
    }
}

async fn deliver(undelivered: &mut Option<Undelivered>) {
    if let Some(undelivered) = undelivered {
        undelivered.deliver().await;
    }
}

async fn expired(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Reads once from a source that may be ready.
fn take(ready: io::Result<AsyncFdReadyGuard<'_, OwnedFd>>, source: &Option<Source>) -> Read {
    let (Ok(mut ready), Some(source)) = (ready, source) else { return Read::End };
    let read = source.read();
    if let Read::Nothing | Read::Chunk { drained: true, .. } = read {
        ready.clear_ready();
    }
    read
}

/// Hands out what is there already; who has no room for it goes without.
fn drain(source: &Source, output: &Fanout) {
    let mut left = MAX_DRAIN / (16 << 10);
    while let Read::Chunk { chunk, .. } = source.read()
        && left > 0
    {
        output.offer(chunk);
        left -= 1;
    }
}
