//! How long a sandbox lives.

use std::time::Duration;

use chrono::{DateTime, Utc};
use soulbox_faults::point;
use soulbox_model::{Error, Result, SandboxId, TeamId};

use crate::{
    admit,
    core::{Core, now},
    live::Live,
    types::Sandbox,
};

/// The least that a refresh grants.
const REFRESH_LEAST: Duration = Duration::from_secs(15);
const REFRESH_MOST: Duration = Duration::from_secs(3600);

impl Core {
    pub(crate) async fn set_timeout(
        &self,
        team: TeamId,
        id: &SandboxId,
        timeout: Duration,
    ) -> Result<Sandbox> {
        let live = self.not_gone(team, id)?;
        let now = now();
        let latest = self.latest_end(&live);
        if now > latest {
            return Err(Error::invalid("timeout", "the sandbox has reached its longest life"));
        }
        let end_at = latest.min(self.after(now, timeout));
        live.reschedule(&self.timers, |_| end_at)?;
        self.save_end(&live).await?;
        Ok(live.snapshot(self))
    }

    pub(crate) async fn refresh(
        &self,
        team: TeamId,
        id: &SandboxId,
        duration: Duration,
    ) -> Result<()> {
        if duration > REFRESH_MOST {
            return Err(Error::invalid("duration", "must be 0 to 3600 seconds"));
        }
        let live = self.not_gone(team, id)?;
        self.extend(&live, duration.max(REFRESH_LEAST)).await
    }

    pub(crate) async fn connect(
        &self,
        team: TeamId,
        id: &SandboxId,
        timeout: Duration,
    ) -> Result<Sandbox> {
        admit::check_timeout(timeout, &self.limits)?;
        let live = self.not_gone(team, id)?;
        self.extend(&live, timeout).await?;
        Ok(live.snapshot(self))
    }

    /// Like [`Core::running`], but one that is ending is told from an unknown one later on.
    fn not_gone(&self, team: TeamId, id: &SandboxId) -> Result<std::sync::Arc<Live>> {
        self.registry.of_team(team, id).ok_or_else(|| Error::not_found("sandbox", id))
    }

    async fn extend(&self, live: &Live, duration: Duration) -> Result<()> {
        let wanted = self.latest_end(live).min(self.after(now(), duration));
        let mut moved = false;
        live.reschedule(&self.timers, |end_at| {
            moved = wanted > end_at;
            end_at.max(wanted)
        })?;
        if moved { self.save_end(live).await } else { Ok(()) }
    }

    async fn save_end(&self, live: &Live) -> Result<()> {
        let _turn = live.saving_end.lock().await;
        point("timeout.moved");
        Ok(self.store.set_end_at(&live.id, live.end_at()).await?)
    }

    fn latest_end(&self, live: &Live) -> DateTime<Utc> {
        live.started_at + self.limits.max_timeout
    }

    /// `duration` after `time`, where a longer one than any life counts as that.
    fn after(&self, time: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
        time + duration.min(self.limits.max_timeout)
    }
}
