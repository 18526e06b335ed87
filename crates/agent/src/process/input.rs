//! Into a process: its standard input or its terminal.

use std::{io, os::fd::OwnedFd, sync::Arc};

use connectrpc::ConnectError;
use soulbox_sys::pty;
use soulbox_wire::process::{__buffa::oneof::process_input, ProcessInput};
use tokio::{io::unix::AsyncFd, sync::Mutex};

/// Where input goes.
#[derive(Debug)]
pub(super) enum Input {
    /// Standard input; closed when absent. Whole messages go in one after the other, so the lock
    /// is held while a full pipe makes a writer wait.
    Pipe(Mutex<Option<AsyncFd<OwnedFd>>>),
    Terminal {
        master: Arc<AsyncFd<OwnedFd>>,
        turn: Mutex<()>,
    },
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
            (Self::Terminal { master, turn }, Sent::Pty(bytes)) => {
                let _turn = turn.lock().await;
                write_all(master, &bytes).await
            }
            (Self::Pipe(_), Sent::Pty(_)) => {
                return Err(ConnectError::internal("tty not assigned to process"));
            }
            (Self::Terminal { .. }, Sent::Stdin(_)) => {
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
            Self::Terminal { .. } => Err(ConnectError::unknown(
                "cannot close the stdin of a process with a tty: send Ctrl+D (0x04) instead",
            )),
        }
    }

    pub(super) fn resize(&self, size: pty::Size) -> Result<(), ConnectError> {
        match self {
            Self::Pipe(_) => Err(ConnectError::internal("tty not assigned to process")),
            Self::Terminal { master, .. } => pty::resize(master.get_ref(), size)
                .map_err(|error| ConnectError::internal(format!("error resizing tty: {error}"))),
        }
    }
}

async fn write_all(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = fd.writable().await?;
        match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
            Ok(written) => bytes = &bytes[written?..],
            Err(_would_block) => {}
        }
    }
    Ok(())
}
