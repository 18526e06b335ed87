//! Into a process: its standard input or its terminal.

use std::{io, os::fd::OwnedFd};

use connectrpc::ConnectError;
use soulbox_sys::pty;
use soulbox_wire::process::{__buffa::oneof::process_input, ProcessInput};
use tokio::{io::unix::AsyncFd, sync::Mutex};

use super::terminal::Terminal;

/// Where input goes.
#[derive(Debug)]
pub(super) enum Input {
    /// Standard input; closed when absent. Whole messages go in one after the other, so the lock
    /// is held while a full pipe makes a writer wait.
    Pipe(Mutex<Option<AsyncFd<OwnedFd>>>),
    Terminal(Terminal),
}

impl Input {
    /// Writes all of it, waiting while the process does not read.
    pub(super) async fn write(&self, input: ProcessInput) -> Result<(), ConnectError> {
        use process_input::Input as Sent;
        let sent =
            input.input.ok_or_else(|| ConnectError::unimplemented("input type not given"))?;
        let written = match (self, sent) {
            (Self::Pipe(pipe), Sent::Stdin(bytes)) => match &*pipe.lock().await {
                Some(pipe) => write_all(pipe, &bytes).await,
                None => return Err(ConnectError::internal("stdin not enabled or closed")),
            },
            (Self::Terminal(terminal), Sent::Pty(bytes)) => terminal.write(&bytes).await,
            (Self::Pipe(_), Sent::Pty(_)) => {
                return Err(ConnectError::internal("tty not assigned to process"));
            }
            (Self::Terminal(_), Sent::Stdin(_)) => {
                return Err(ConnectError::internal("process has a tty: send pty input"));
            }
        };
        written
            .map_err(|error| ConnectError::internal(format!("error writing to process: {error}")))
    }

    /// Closes standard input after what was written before.
    pub(super) async fn close(&self) -> Result<(), ConnectError> {
        match self {
            Self::Pipe(pipe) => {
                pipe.lock().await.take();
                Ok(())
            }
            Self::Terminal(_) => Err(ConnectError::unknown(
                "cannot close the stdin of a process with a tty: send Ctrl+D (0x04) instead",
            )),
        }
    }

    pub(super) fn resize(&self, size: pty::Size) -> Result<(), ConnectError> {
        match self {
            Self::Pipe(_) => Err(ConnectError::internal("tty not assigned to process")),
            Self::Terminal(terminal) => terminal
                .resize(size)
                .map_err(|error| ConnectError::internal(format!("error resizing tty: {error}"))),
        }
    }
}

pub(super) async fn write_all(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = fd.writable().await?;
        match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
            Ok(written) => bytes = &bytes[written?..],
            Err(_would_block) => {}
        }
    }
    Ok(())
}
