//! One command in a sandbox from its start to its end, with input, output and signals.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{SinkExt as _, channel::mpsc};
use parking_lot::Mutex;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use crate::{
    client::{
        Remote,
        process::{Data, End, Event, Signal},
        remote::Launch,
    },
    failure::{Failure, Result},
};

/// How long a command may take to end after the first signal.
const GRACE: Duration = Duration::from_secs(2);
/// What is read from standard input at a time.
const CHUNK: usize = 32 << 10;

/// Where a command's input comes from.
#[derive(Debug)]
pub(in crate::commands) enum Input {
    None,
    /// What arrives here; the end closes the command's input.
    Chunks(mpsc::Receiver<Vec<u8>>),
}

/// Tasks that end with their owner.
#[derive(Debug)]
pub(in crate::commands) struct Owned(pub JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a command and hands each piece of output to `show`.
///
/// SIGINT, SIGTERM and SIGHUP end the command: asked first, killed when it does not listen or at the
/// second signal.
///
/// # Errors
/// What the agent says, what `show` says, or [`Failure::Exit`] after a signal.
pub(in crate::commands) async fn run(
    remote: &Remote,
    launch: Launch,
    input: Input,
    resized: impl FnOnce(u32) -> Option<Owned>,
    mut show: impl AsyncFnMut(Data) -> Result<()>,
) -> Result<End> {
    let launch = Launch { stdin: matches!(input, Input::Chunks(_)), ..launch };
    let terminal = launch.terminal.is_some();
    let interrupts = Interrupts::new()?;
    let mut running = tokio::select! {
        started = remote.start(&launch) => started?,
        code = interrupts.clone().next() => return Err(Failure::Exit(code)),
    };
    let pid = running.pid;
    let cause = Arc::new(Mutex::new(None));
    let _signals =
        Owned(tokio::spawn(end_on_signal(remote.clone(), pid, interrupts, Arc::clone(&cause))));
    let _input = match input {
        Input::None => None,
        Input::Chunks(chunks) => {
            Some(Owned(tokio::spawn(feed(remote.clone(), pid, terminal, chunks))))
        }
    };
    let _resizes = resized(pid);

    let mut ended = None;
    loop {
        match running.next().await {
            Ok(Some(Event::Data(data))) => {
                if let Err(failure) = show(data).await {
                    // Nobody reads any more; what wrote for them has no reason to go on.
                    let _ = remote.signal(pid, Signal::Kill).await;
                    return Err(failure);
                }
            }
            Ok(Some(Event::End(end))) => ended = Some(end),
            Ok(Some(Event::Start { .. } | Event::Keepalive {})) => {}
            Ok(None) => break,
            Err(failure) => {
                return Err(cause.lock().map_or(failure, Failure::Exit));
            }
        }
    }
    if let Some(code) = *cause.lock() {
        return Err(Failure::Exit(code));
    }
    ended.ok_or_else(|| Failure::Protocol("a stream without the end of its process".into()))
}

async fn feed(remote: Remote, pid: u32, terminal: bool, chunks: mpsc::Receiver<Vec<u8>>) {
    // A process that ended, or closed its input, does not want the rest.
    if let Err(failure) = remote.feed(pid, terminal, chunks).await {
        tracing::debug!(%failure, "input ended early");
        return;
    }
    if !terminal && let Err(failure) = remote.close_stdin(pid).await {
        tracing::debug!(%failure, "input was closed already");
    }
}

/// Standard input of this process, read by a thread of its own: a read of it can't be cancelled.
pub(in crate::commands) fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (mut sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut chunk[..]) {
                Ok(0) => return,
                Ok(read) => {
                    let sent = sender.send(chunk[..read].to_vec());
                    if futures::executor::block_on(sent).is_err() {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::debug!(%error, "standard input");
                    return;
                }
            }
        }
    });
    receiver
}

/// The signals that ask this process to end. From the first of these on, they do not end it by themselves:
/// whatever waits must listen.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Interrupts(
    Arc<tokio::sync::Mutex<[(tokio::signal::unix::Signal, u8); 3]>>,
);

impl Interrupts {
    /// # Errors
    /// If the kernel does not let this process listen.
    pub(in crate::commands) fn new() -> Result<Self> {
        let listen = |kind: SignalKind| {
            // A shell reports 128 plus the signal.
            let code = 128 + u8::try_from(kind.as_raw_value()).unwrap_or(0);
            signal(kind).map(|stream| (stream, code)).map_err(Failure::io("signals"))
        };
        Ok(Self(Arc::new(tokio::sync::Mutex::new([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))))
    }

    /// What `work` comes to, unless a signal is first: nothing more is done then.
    ///
    /// # Errors
    /// Those of `work`, or [`Failure::Exit`] after a signal.
    pub(in crate::commands) async fn or<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            code = self.clone().next() => Err(Failure::Exit(code)),
            done = work => done,
        }
    }

    /// The exit code that the next one means.
    pub(in crate::commands) async fn next(self) -> u8 {
        let mut signals = self.0.lock().await;
        let [a, b, c] = &mut *signals;
        tokio::select! {
            _ = a.0.recv() => a.1,
            _ = b.0.recv() => b.1,
            _ = c.0.recv() => c.1,
        }
    }
}

async fn end_on_signal(
    remote: Remote,
    pid: u32,
    interrupts: Interrupts,
    cause: Arc<Mutex<Option<u8>>>,
) {
    let code = interrupts.clone().next().await;
    *cause.lock() = Some(code);
    let ask = remote.signal(pid, Signal::Term);
    tokio::select! {
        asked = async { (ask.await, tokio::time::sleep(GRACE).await) } => {
            if let (Err(failure), ()) = asked {
                tracing::debug!(%failure, "could not end the command");
            }
        }
        _ = interrupts.next() => {}
    }
    if let Err(failure) = remote.signal(pid, Signal::Kill).await {
        tracing::debug!(%failure, "could not kill the command");
    }
}
