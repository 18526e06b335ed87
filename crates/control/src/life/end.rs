//! The end of a sandbox: by request, by timeout, by itself.

use std::{sync::Arc, time::Duration};

use soulbox_engine::Exit;
use soulbox_faults::point;
use soulbox_model::{Error, Result, SandboxId, TeamId};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    core::Core,
    live::{Ending, Live},
    types::Level,
};

/// How long a kill waits for the processes to die.
const KILL_WITHIN: Duration = Duration::from_secs(50);
/// How long the end waits for the last log lines of the agent.
const LAST_LINES_WITHIN: Duration = Duration::from_millis(250);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Attempts to remove a row; should all fail, the next start removes it.
const ROW_ATTEMPTS: u32 = 5;

/// Why a sandbox ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody asked for it.
    Killed,
    TimedOut,
    /// Its PID 1 died.
    Died {
        oom: bool,
    },
    /// Who asked for it went away before it was made.
    Abandoned,
    /// The server stops and takes its sandboxes along.
    Shutdown,
    /// The engine destroyed it unasked.
    Vanished,
}

impl From<Exit> for Cause {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Destroyed => Self::Vanished,
            Exit::AgentDied { oom } => Self::Died { oom },
        }
    }
}

impl Cause {
    fn text(self) -> (Level, &'static str, &'static str) {
        match self {
            Self::Killed => (Level::Info, "killed", "sandbox ended: killed on request"),
            Self::TimedOut => (Level::Info, "timeout", "sandbox ended: its timeout was over"),
            Self::Died { oom: true } => (
                Level::Error,
                "oom",
                "sandbox ended: out of memory (OOM), its memory limit was hit",
            ),
            Self::Died { oom: false } => {
                (Level::Error, "died", "sandbox ended: its first process died")
            }
            Self::Abandoned => {
                (Level::Info, "abandoned", "sandbox ended: its creator did not wait for it")
            }
            Self::Shutdown => (Level::Info, "shutdown", "sandbox ended: the server shut down"),
            Self::Vanished => (Level::Error, "vanished", "sandbox ended: its engine removed it"),
        }
    }
}

impl Core {
    pub(crate) async fn kill(self: &Arc<Self>, team: TeamId, id: &SandboxId) -> Result<()> {
        let live =
            self.registry.of_team(team, id).ok_or_else(|| Error::not_found("sandbox", id))?;
        self.end(&live, Cause::Killed);
        let mut ending = live.ending.subscribe();
        let settled = timeout(KILL_WITHIN, ending.wait_for(|e| *e != Ending::Pending)).await;
        match settled {
            Ok(Ok(ending)) => match &*ending {
                Ending::Failing(reason) => Err(Error::internal(
                    format!("sandbox `{id}` could not be ended yet; it is tried again"),
                    reason.clone(),
                )),
                Ending::Pending | Ending::Done => Ok(()),
            },
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(Error::unavailable(
                format!("sandbox `{id}` is still ending"),
                Duration::from_secs(5),
            )),
        }
    }

    /// The timer of a sandbox fired.
    pub(crate) fn expire(self: &Arc<Self>, id: &SandboxId) {
        let Some(live) = self.registry.get(id) else { return };
        let now = Instant::now();
        // Somebody may have moved the deadline since.
        if live.begin_end(&self.timers, |deadline| deadline <= now) {
            point("timeout.fired");
            self.finish(live, Cause::TimedOut);
        }
    }

    /// Begins the end of a sandbox, once; whoever comes later joins.
    pub(crate) fn end(self: &Arc<Self>, live: &Arc<Live>, cause: Cause) {
        if live.begin_end(&self.timers, |_| true) {
            self.finish(Arc::clone(live), cause);
        }
    }

    /// Carries out an end that has begun.
    fn finish(self: &Arc<Self>, live: Arc<Live>, cause: Cause) {
        point("end.begun");
        let core = Arc::clone(self);
        self.work.spawn(async move {
            if matches!(cause, Cause::Killed | Cause::TimedOut) {
                // Best effort: the lines go with the agent.
                let last = async {
                    core.read_usage(&live).await;
                    core.pull_logs(&live).await
                };
                let _ = timeout(LAST_LINES_WITHIN, last).await;
            }
            let (level, event, text) = cause.text();
            live.journal.note(level, text, &[("event", event)]);
            tracing::info!(sandbox = %live.id, cause = event, "sandbox ends");
            live.set_gate(None);
            core.destroy(&live.id, Some(&live)).await;
            point("end.forgotten");
            // Kept first: who asks for its logs meanwhile finds it in one place or the other.
            core.archive.add(Arc::clone(&live));
            core.registry.remove(&live);
            core.names.forget(&live.id);
            live.free_slot();
            live.ending.send_replace(Ending::Done);
        });
    }

    /// Removes a sandbox that nobody knows of, in the background.
    pub(crate) fn discard(self: &Arc<Self>, id: SandboxId) {
        let core = Arc::clone(self);
        self.work.spawn(async move {
            core.destroy(&id, None).await;
            core.forget(&id).await;
        });
    }

    /// Ends a sandbox and removes its row, however often it takes.
    async fn destroy(&self, id: &SandboxId, live: Option<&Live>) {
        let mut delay = FIRST_RETRY;
        loop {
            let attempt = async {
                let _turn = self.destroying.acquire().await;
                self.engine.destroy(id).await
            };
            // Should the server die in between, the next start goes on.
            let (noted, ended) = tokio::join!(self.store.set_ending(id), attempt);
            if let Err(error) = noted {
                tracing::warn!(sandbox = %id, %error, "could not note that a sandbox ends");
            }
            let Err(error) = ended else { break };
            tracing::error!(sandbox = %id, %error, "a sandbox could not be ended; trying again");
            if let Some(live) = live {
                live.ending.send_replace(Ending::Failing(error.to_string()));
            }
            tokio::select! {
                () = sleep(delay) => {}
                // The row says `ending`: the next start finishes this.
                () = self.stop.cancelled() => return,
            }
            delay = (delay * 2).min(LAST_RETRY);
        }
        point("end.destroyed");
        let mut delay = FIRST_RETRY;
        for attempt in 1..=ROW_ATTEMPTS {
            let Err(error) = self.store.delete_sandbox(id).await else { return };
            tracing::error!(sandbox = %id, %error, attempt, "the row of a sandbox stays");
            if self.stop.is_cancelled() {
                return;
            }
            sleep(delay).await;
            delay *= 2;
        }
    }

    /// Removes the row of a sandbox that never ran, so that a repeat of its request starts anew.
    pub(crate) async fn forget(&self, id: &SandboxId) {
        if let Err(error) = self.store.forget_sandbox(id.as_str()).await {
            // The next start removes it.
            tracing::error!(sandbox = %id, %error, "the row of a failed creation stays");
        }
    }
}
