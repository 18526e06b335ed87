//! Being asked to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Result};

/// Whether somebody asked to stop. What a run made is cleaned up before it does.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on, Ctrl-C and SIGTERM do not end this process.
    pub(super) fn listen() -> Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::io("signals"))?;
        let interrupt = Self(Arc::default());
        let flag = Arc::clone(&interrupt.0);
        // Ends with the process.
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            flag.store(true, Ordering::Relaxed);
        });
        Ok(interrupt)
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// As if the user had asked.
    pub(super) fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// For threads that look at it themselves.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}
