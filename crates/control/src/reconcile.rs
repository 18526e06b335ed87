//! Taking over what an earlier process of this server left.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use soulbox_engine::{Error as EngineError, Record};
use soulbox_faults::point;
use soulbox_model::{Error, Result, SandboxId, network::BytesUsed};
use soulbox_store::{SandboxRow, SandboxState};
use tokio::time::{sleep, timeout};

use crate::{core::Core, live::Live, types::Level};

const AT_ONCE: usize = 16;
const ADOPT_ATTEMPTS: u32 = 3;
const ADOPT_AGAIN: Duration = Duration::from_millis(100);
/// How long an agent may take to answer when nobody knows whether it serves.
const SERVES_WITHIN: Duration = Duration::from_secs(2);

impl Core {
    /// Adopts the sandboxes that live, ends those that were being made or ended, and removes what
    /// belongs to none. Timeouts that passed meanwhile fire as soon as the timers run.
    pub(crate) async fn reconcile(self: &Arc<Self>) -> Result<()> {
        let loaded = self.store.sandboxes().await?;
        for (id, error) in loaded.unreadable {
            tracing::error!(sandbox = %id, %error, "removing a sandbox whose row cannot be read");
            self.store.forget_sandbox(&id).await?;
        }
        let (new, known): (Vec<_>, Vec<_>) =
            loaded.rows.into_iter().partition(|row| row.state == SandboxState::Creating);
        let (served, unserved): (Vec<_>, Vec<_>) = stream::iter(new)
            .map(async |row| (self.serves(&row).await, row))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .partition(|(serves, _)| *serves);
        let (mut running, mut unfinished): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|row| row.state == SandboxState::Running);
        running.extend(served.into_iter().map(|(_, row)| row));
        unfinished.extend(unserved.into_iter().map(|(_, row)| row));

        let mut used = self.bytes_used().await?;
        let kept: Vec<Option<SandboxId>> = stream::iter(running)
            .map(|row| {
                let used = used.remove(&row.id).unwrap_or_default();
                self.take_over(row, used)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let kept: HashSet<SandboxId> = kept.into_iter().flatten().collect();

        self.restore_domains().await?;
        point("restart.adopted");
        let finished: Vec<Result<()>> = stream::iter(unfinished)
            .map(|row| self.finish_old(row))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        finished.into_iter().collect::<Result<()>>()?;

        point("restart.finished");
        let swept = self
            .engine
            .sweep(&kept)
            .await
            .map_err(|error| Error::internal("leftovers could not be removed", error))?;
        point("restart.swept");
        if swept > 0 || !kept.is_empty() {
            tracing::info!(adopted = kept.len(), swept, "took over from the last run");
        }
        Ok(())
    }

    /// Whether a sandbox got to serve before the server died, whose row does not say so yet.
    async fn serves(&self, row: &SandboxRow) -> bool {
        let Some(record) = row.record.clone() else { return false };
        if self.engine.adopt(&row.id, &Record(record)).await.is_err() {
            return false;
        }
        let asked = timeout(SERVES_WITHIN, self.answers(&row.id)).await;
        let serves = asked.is_ok_and(|answer| answer.is_ok());
        if serves && let Err(error) = self.store.set_running(&row.id).await {
            tracing::warn!(sandbox = %row.id, %error, "could not note that a sandbox runs");
        }
        serves
    }

    /// What each sandbox used of its limits of bytes.
    async fn bytes_used(&self) -> Result<HashMap<SandboxId, Vec<BytesUsed>>> {
        let mut of = HashMap::<_, Vec<_>>::new();
        for (id, used) in self.store.bytes_used().await? {
            of.entry(id).or_default().push(used);
        }
        Ok(of)
    }

    /// Returns the id of a sandbox that lives on.
    async fn take_over(
        self: &Arc<Self>,
        mut row: SandboxRow,
        used: Vec<BytesUsed>,
    ) -> Option<SandboxId> {
        let id = row.id.clone();
        if let Err(reason) = self.adopt(&id, row.record.take()).await {
            tracing::warn!(sandbox = %id, reason, "a sandbox did not survive");
            // What is left of it is swept.
            if let Err(error) = self.store.delete_sandbox(&id).await {
                tracing::error!(sandbox = %id, %error, "the row of a dead sandbox stays");
            }
            return None;
        }
        let live = Arc::new(Live::new(self, row, self.registry.adopt_slot()));
        live.journal.note(
            Level::Info,
            "server restarted, sandbox adopted",
            &[("event", "adopted")],
        );
        live.traffic.resume(&live.network().egress.bytes, &used);
        self.open_way_out(&live).await;
        self.announce(&live);
        Some(id)
    }

    async fn adopt(&self, id: &SandboxId, record: Option<serde_json::Value>) -> Result<(), String> {
        let record = Record(record.ok_or("its row has no engine record")?);
        let mut attempt = 1;
        loop {
            match self.engine.adopt(id, &record).await {
                Ok(()) => return Ok(()),
                Err(error @ EngineError::Gone(_)) => return Err(error.to_string()),
                Err(error) if attempt == ADOPT_ATTEMPTS => return Err(error.to_string()),
                Err(error) => tracing::warn!(sandbox = %id, %error, "adopting again"),
            }
            attempt += 1;
            sleep(ADOPT_AGAIN).await;
        }
    }

    /// Ends a sandbox that was being made or ended.
    async fn finish_old(&self, row: SandboxRow) -> Result<()> {
        tracing::info!(sandbox = %row.id, state = row.state.as_str(), "finishing the end of a sandbox");
        if let Some(record) = row.record {
            // So that the engine knows what to destroy; if it is dead, so much the better.
            let _ = self.engine.adopt(&row.id, &Record(record)).await;
        }
        if let Err(error) = self.engine.destroy(&row.id).await {
            // The sweep tries once more.
            tracing::warn!(sandbox = %row.id, %error, "an old sandbox could not be ended");
        }
        point("restart.ended");
        match row.state {
            // Nobody was told of it: a repeat of its request starts anew.
            SandboxState::Creating => self.store.forget_sandbox(row.id.as_str()).await?,
            SandboxState::Running | SandboxState::Ending => {
                self.store.delete_sandbox(&row.id).await?;
            }
        }
        Ok(())
    }
}
