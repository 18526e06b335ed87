//! One build that is under way, and everybody who waits for it.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use tokio::sync::watch;

use crate::{
    error::{Error, Result},
    template::{Progress, Template},
};

/// One build, which everybody who asked for it waits for.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) progress: watch::Sender<Progress>,
    /// Who waits holds a receiver; the build is cancelled when the last one is gone.
    pub(crate) outcome: watch::Sender<Option<Result<Arc<Template>>>>,
    /// Whether somebody stopped it for all who wait.
    stopped: watch::Sender<bool>,
    pub(crate) began: DateTime<Utc>,
}

pub(crate) enum Joined {
    Ready(Arc<Template>),
    Flight(Passenger),
}

pub(crate) struct Passenger {
    progress: watch::Receiver<Progress>,
    outcome: watch::Receiver<Option<Result<Arc<Template>>>>,
}

impl Flight {
    pub(crate) fn new() -> Self {
        Self {
            progress: watch::Sender::new(Progress { percent: 0, step: "starting".into() }),
            outcome: watch::Sender::new(None),
            stopped: watch::Sender::new(false),
            began: Utc::now(),
        }
    }

    /// Ends it for all who wait.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Returns when nobody waits for it any more, or somebody stopped it, as the error of `name`.
    pub(crate) async fn given_up(&self, name: &str) -> Error {
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            biased;
            // The sender is here.
            _ = stopped.wait_for(|stopped| *stopped) => Error::Stopped(name.to_owned()),
            () = self.outcome.closed() => Error::Cancelled(name.to_owned()),
        }
    }

    pub(crate) fn join(&self) -> Passenger {
        Passenger { progress: self.progress.subscribe(), outcome: self.outcome.subscribe() }
    }
}

impl Passenger {
    pub(crate) async fn wait(
        mut self,
        name: &str,
        progress: &impl Fn(Progress),
    ) -> Result<Arc<Template>> {
        loop {
            tokio::select! {
                biased;
                outcome = self.outcome.wait_for(Option::is_some) => {
                    // The sender only goes away when the runtime does.
                    let cancelled = || Error::Cancelled(name.to_owned());
                    return outcome.ok().and_then(|o| (*o).clone()).ok_or_else(cancelled)?;
                }
                Ok(()) = self.progress.changed() => {
                    let step = self.progress.borrow_and_update().clone();
                    progress(step);
                }
            }
        }
    }
}
