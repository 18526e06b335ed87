//! Learning of exits: one task for all processes, woken by `SIGCHLD`.
//!
//! As PID 1 the agent also inherits every orphan of the sandbox and must wait for it.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::AbortHandle,
};

use crate::State;

/// Which children are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them: the agent is PID 1 and nobody else in this process waits.
    Everything,
    /// Those that clients started.
    Started,
}

impl Scope {
    /// Everything for PID 1, on which the kernel puts all orphans.
    pub fn of_this_process() -> Self {
        if std::process::id() == 1 { Self::Everything } else { Self::Started }
    }
}

/// Stops waiting for children when dropped.
#[derive(Debug)]
pub struct Reaper(AbortHandle);

impl Drop for Reaper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts waiting for children.
///
/// # Errors
/// The signal handler cannot be installed.
pub fn spawn(state: Arc<State>, scope: Scope) -> io::Result<Reaper> {
    let mut exits = signal(SignalKind::child())?;
    let task = tokio::spawn(async move {
        loop {
            state.processes.reap(scope);
            if exits.recv().await.is_none() {
                return;
            }
        }
    });
    Ok(Reaper(task.abort_handle()))
}
