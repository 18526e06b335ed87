//! This process's own terminal.

use rustix::{
    stdio::stdin,
    termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr},
};
use tokio::signal::unix::{SignalKind, signal};

use super::session::Owned;
use crate::{
    client::{Remote, process::Size},
    failure::{Failure, Result},
};

/// Raw mode: every key goes to the sandbox. The terminal is as before when this is dropped.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// # Errors
    /// If standard input is no terminal.
    pub(super) fn enter() -> Result<Self> {
        let failed = |errno: rustix::io::Errno| Failure::io("terminal")(errno.into());
        let before = tcgetattr(stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Whether standard input is a terminal.
pub(super) fn present() -> bool {
    isatty(stdin())
}

/// The size of the terminal, or the usual one without a terminal.
pub(super) fn size() -> Size {
    match tcgetwinsize(stdin()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { cols: size.ws_col, rows: size.ws_row }
        }
        _ => Size { cols: 80, rows: 24 },
    }
}

/// The name of the terminal's kind, for programs in it.
pub(super) fn kind() -> String {
    std::env::var("TERM").ok().filter(|term| !term.is_empty()).unwrap_or("xterm-256color".into())
}

/// Passes each change of size on to the terminal of process `pid`.
pub(super) fn follow_size(remote: &Remote, pid: u32) -> Option<Owned> {
    let mut changes = signal(SignalKind::window_change()).ok()?;
    let remote = remote.clone();
    Some(Owned(tokio::spawn(async move {
        while changes.recv().await.is_some() {
            if let Err(failure) = remote.resize(pid, size()).await {
                tracing::debug!(%failure, "resize");
            }
        }
    })))
}
