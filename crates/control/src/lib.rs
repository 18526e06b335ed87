//! The life of a sandbox: create, connect, time out, kill, adopt.
//!
//! The one place that knows which sandboxes there are and what may happen to them next. The API
//! and the gateway call [`Control`]; it drives an engine and a store. It knows nothing of HTTP
//! and nothing of how an engine isolates. Start with [`Control::open`], then read `life::create`
//! and `life::end`; `live` is what is known of a sandbox in memory.

mod admit;
mod agent;
mod archive;
mod core;
pub mod derive;
mod domains;
mod failure;
#[doc(hidden)]
pub mod fuzzing;
mod ingress;
mod keys;
mod life;
mod listing;
mod live;
mod logs;
mod metrics;
mod page;
mod reconcile;
mod secrets;
mod timers;
pub mod types;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, Utc};
pub use ingress::{Pass, PortAccess, Unexposed};
pub use life::{KEY_REUSED, TrafficReader};
pub use live::Tally;
pub use secrets::{SecretPage, Secrets};
pub use soulbox_egress::{Counts, Decision, Event, Part};
use soulbox_engine::{Conduit, ConnectError, Target};
use soulbox_image::{Template, Templates, derived::Plan};
use soulbox_model::{
    Error, Port, Result, SandboxId, TeamId,
    network::{Demands, Domain, Egress},
    resources::Usage,
};
pub use soulbox_store::{
    ApiKey, Mask, NewKey, NewSecret, SECRETS_FULL, Secret, SecretChange, Team,
};
use tokio_util::sync::DropGuard;
use uuid::Uuid;

use crate::core::Core;
pub use crate::types::{
    Caller, Config, Create, Direction, Level, Limits, ListFilter, Listed, LogLine, LogQuery, Order,
    Page, Sample, Sandbox, Shape, State,
};

/// The control plane of one server. Clones share it; when the last one goes, its background work
/// stops and its sandboxes live on.
#[derive(Clone, Debug)]
pub struct Control {
    core: Arc<Core>,
    _stop: Arc<DropGuard>,
}

impl Control {
    /// Takes over the sandboxes that an earlier process left, ends what it was ending, removes
    /// what belongs to no sandbox, and starts the timers.
    ///
    /// # Errors
    /// If the configuration, the store or the engine does not allow it. One dead sandbox is no error.
    pub async fn open(config: Config) -> Result<Self> {
        let core = Core::new(config)?;
        core.reconcile().await?;
        core.start_background();
        let stop = Arc::new(core.stop.clone().drop_guard());
        Ok(Self { core, _stop: stop })
    }

    /// Who a request with this API key is from. The revocation of a key by another process takes
    /// effect within a second.
    ///
    /// # Errors
    /// [`Error::Authentication`] for a malformed or unknown key.
    pub async fn authenticate(&self, api_key: &str) -> Result<Caller> {
        self.core.authenticate(api_key).await
    }

    /// Makes a sandbox and returns when its agent serves.
    ///
    /// If the returned future is dropped, the sandbox is removed, unless an idempotency key lets
    /// the caller come back for it. Calls with the same idempotency key return the same sandbox.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::NotFound`] for the template, [`Error::ResourceLimit`],
    /// [`Error::Conflict`] when the idempotency key belongs to another request or its sandbox has
    /// ended, [`Error::SandboxCreation`] and others when the engine failed; nothing is left then.
    pub async fn create(&self, team: TeamId, request: Create) -> Result<Sandbox> {
        self.core.create(team, request).await
    }

    /// # Errors
    /// [`Error::NotFound`] for an unknown or ending sandbox, or one of another team.
    pub async fn get(&self, team: TeamId, id: &SandboxId) -> Result<Sandbox> {
        Ok(self.core.running(team, id)?.snapshot(&self.core))
    }

    /// # Errors
    /// [`Error::InvalidRequest`] for a page token that this list did not give, or a bad limit.
    pub async fn list(&self, team: TeamId, filter: ListFilter, page: Page) -> Result<Listed> {
        self.core.list(team, &filter, &page)
    }

    /// Ends a sandbox; returns when its processes are dead. Joins an end that is under way.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown one. If the engine fails at first, an error says so
    /// while the end is tried again in the background.
    pub async fn kill(&self, team: TeamId, id: &SandboxId) -> Result<()> {
        self.core.kill(team, id).await
    }

    /// Sets the end to `timeout` from now, sooner or later than before; zero ends it at once. No
    /// sandbox lives longer than [`Limits::max_timeout`]: a later end is cut to that.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] for one that is ending; [`Error::InvalidRequest`]
    /// when it already outlived the limit.
    pub async fn set_timeout(
        &self,
        team: TeamId,
        id: &SandboxId,
        timeout: Duration,
    ) -> Result<Sandbox> {
        self.core.set_timeout(team, id, timeout).await
    }

    /// Keeps a sandbox alive for at least `duration` from now, 15 s where it is less.
    ///
    /// # Errors
    /// Like [`Control::set_timeout`]; [`Error::InvalidRequest`] for more than an hour.
    pub async fn refresh(&self, team: TeamId, id: &SandboxId, duration: Duration) -> Result<()> {
        self.core.refresh(team, id, duration).await
    }

    /// Replaces what governs a sandbox's way out: in effect at once, and what it no longer allows
    /// is cut. `allow_internet` is what [`Sandbox::allow_internet`] tells from now on; `None`
    /// leaves that.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InvalidRequest`] for a policy that contradicts itself.
    pub async fn set_egress(
        &self,
        team: TeamId,
        id: &SandboxId,
        egress: Egress,
        allow_internet: Option<bool>,
    ) -> Result<()> {
        self.core.set_egress(team, id, egress, allow_internet).await
    }

    /// Replaces what says which requests hosts get, and how many; as [`Control::set_egress`].
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InvalidRequest`] for too many of them.
    pub async fn set_requests(&self, team: TeamId, id: &SandboxId, demands: Demands) -> Result<()> {
        self.core.set_requests(team, id, demands).await
    }

    /// Replaces the names that lead to a port of a sandbox; `None` takes them away.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InvalidRequest`] for a name that is not open to sandboxes; [`Error::Conflict`]
    /// for one that leads to another sandbox, or did to one of another team in the last day;
    /// [`Error::ResourceLimit`] for too many.
    pub async fn set_domains(
        &self,
        team: TeamId,
        id: &SandboxId,
        to: Option<(Vec<Domain>, Port)>,
    ) -> Result<()> {
        self.core.set_domains(team, id, to).await
    }

    /// The names that lead to a sandbox, and to which port.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn domains(&self, team: TeamId, id: &SandboxId) -> Result<(Vec<String>, Option<Port>)> {
        Ok(self.core.names.of(&self.core.running(team, id)?.id))
    }

    /// The running sandbox that a name of its own leads to, and the port. Asked for every request.
    pub fn by_domain(&self, name: &str) -> Option<(SandboxId, Port)> {
        self.core.names.get(name).filter(|(id, _)| self.is_running(id))
    }

    /// # Errors
    /// [`Error::NotFound`].
    pub fn requests(&self, team: TeamId, id: &SandboxId) -> Result<Demands> {
        self.core.requests(team, id)
    }

    /// What went out of a sandbox, from event number `since` on, with `follow` what is to come too; also of
    /// one that ended lately.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::ResourceLimit`] if too many read already.
    pub fn traffic(
        &self,
        team: TeamId,
        id: &SandboxId,
        since: u64,
        follow: bool,
    ) -> Result<TrafficReader> {
        self.core.traffic(team, id, since, follow)
    }

    /// How much went out of a running sandbox, and came back.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn traffic_counts(&self, team: TeamId, id: &SandboxId) -> Result<Counts> {
        Ok(self.core.running(team, id)?.traffic.counts())
    }

    /// What the sandboxes of a team did in all, since this server began.
    pub fn tally(&self, team: TeamId) -> Tally {
        self.core.registry.tally(team)
    }

    /// What a client needs to use a running sandbox; keeps it alive for at least `timeout` from now.
    ///
    /// # Errors
    /// Like [`Control::set_timeout`]; [`Error::InvalidRequest`] for more than [`Limits::max_timeout`].
    pub async fn connect(
        &self,
        team: TeamId,
        id: &SandboxId,
        timeout: Duration,
    ) -> Result<Sandbox> {
        self.core.connect(team, id, timeout).await
    }

    /// What a sandbox used, oldest sample first: one every 5 s, of the last hour. Sandboxes that
    /// ended keep theirs for a while. An unknown one has no samples.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if `start` is after `end`.
    pub async fn metrics(
        &self,
        team: TeamId,
        id: &SandboxId,
        start: Option<DateTime<Utc>>,
        end: Option<DateTime<Utc>>,
    ) -> Result<Vec<Sample>> {
        self.core.metrics(team, id, start, end)
    }

    /// What a running sandbox has used up to this moment.
    ///
    /// # Errors
    /// [`Error::NotFound`]; or what the engine says.
    pub async fn usage(&self, team: TeamId, id: &SandboxId) -> Result<Usage> {
        let live = self.core.running(team, id)?;
        let usage = self.core.engine.usage(&live.id).await;
        usage.map_err(|error| Error::internal("read what a sandbox uses", error))
    }

    /// The newest sample of each running sandbox that has one; others are left out.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for more than 100 ids.
    pub async fn latest_metrics(
        &self,
        team: TeamId,
        ids: &[SandboxId],
    ) -> Result<BTreeMap<SandboxId, Sample>> {
        self.core.latest_metrics(team, ids)
    }

    /// What happened in a sandbox: its own life and what its agent noted. Those that ended keep
    /// their log for a while.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InvalidRequest`] for a query out of range.
    pub async fn logs(
        &self,
        team: TeamId,
        id: &SandboxId,
        query: LogQuery,
    ) -> Result<Vec<LogLine>> {
        self.core.logs(team, id, &query).await
    }

    /// Opens a byte stream into a running sandbox of any team: who may do so is the caller's matter.
    pub async fn dial(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError> {
        if !self.is_running(id) {
            return Err(ConnectError::NotRunning(id.clone()));
        }
        self.core.engine.connect(id, target).await
    }

    pub fn is_running(&self, id: &SandboxId) -> bool {
        self.core.registry.get(id).is_some_and(|live| live.is_running())
    }

    /// How the ports of a running sandbox of any team are reached.
    pub fn port_access(&self, id: &SandboxId) -> Option<Arc<PortAccess>> {
        let live = self.core.registry.get(id).filter(|live| live.is_running())?;
        Some(Arc::clone(&live.ports))
    }

    /// What opens a private port of a sandbox for `life` from now, and until when that is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] where ports are public and need none;
    /// [`Error::InvalidRequest`] for one that is not exposed.
    pub fn port_pass(
        &self,
        team: TeamId,
        id: &SandboxId,
        port: Port,
        life: Duration,
    ) -> Result<(String, DateTime<Utc>)> {
        let live = self.core.running(team, id)?;
        live.ports.check_exposed(port).map_err(|e| Error::invalid("port", e.to_string()))?;
        let until = (core::now() + life).trunc_subsecs(0);
        let pass = live.ports.pass(Pass::Url, port, until);
        let public = || Error::Conflict(format!("the ports of sandbox `{id}` are public"));
        Ok((pass.ok_or_else(public)?, until))
    }

    /// The running sandbox whose agent demands this access token.
    pub fn by_access_token(&self, token: &str) -> Option<SandboxId> {
        self.core.registry.by_token(token).filter(|id| self.is_running(id))
    }

    /// The running sandbox whose access token `fits`. Asks of each in turn, so that must be quick.
    pub fn by_fitting_token(&self, fits: &dyn Fn(&str) -> bool) -> Option<SandboxId> {
        self.core.registry.by_fitting_token(fits).filter(|id| self.is_running(id))
    }

    /// How many sandboxes of all teams are alive, those being made included.
    pub fn alive(&self) -> u32 {
        self.core.registry.slots_used()
    }

    /// # Errors
    /// [`Error::InvalidRequest`] for an empty name or one of more than 128 characters.
    pub async fn create_key(
        &self,
        team: TeamId,
        name: &str,
        created_by: Option<&str>,
    ) -> Result<NewKey> {
        keys::check_name(name)?;
        Ok(self.core.store.create_key(team, name, created_by).await?)
    }

    /// A team's keys, oldest first.
    pub async fn list_keys(&self, team: TeamId) -> Result<Vec<ApiKey>> {
        self.core.list_keys(team).await
    }

    /// # Errors
    /// [`Error::NotFound`] if the team has no such key.
    pub async fn revoke_key(&self, team: TeamId, id: Uuid) -> Result<()> {
        self.core.revoke_key(team, id).await
    }

    /// # Errors
    /// Like [`Control::create_key`] and [`Control::revoke_key`].
    pub async fn rename_key(&self, team: TeamId, id: Uuid, name: &str) -> Result<()> {
        self.core.rename_key(team, id, name).await
    }

    /// What the teams keep secret.
    pub fn secrets(&self) -> Secrets<'_> {
        self.core.secrets()
    }

    /// The team of that id.
    pub async fn team(&self, id: TeamId) -> Result<Team> {
        let teams = self.core.store.teams().await?;
        teams.into_iter().find(|team| team.id == id).ok_or_else(|| Error::not_found("team", id))
    }

    /// Makes a template known that adds a layer to another one, for this team alone, and says what it
    /// is called. It is built when [`Templates::build`] is asked for it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the parent; [`Error::ResourceLimit`] for too many of them, or as many sandboxes
    /// as there may be: each is made in one.
    pub fn derive(&self, team: TeamId, plan: Plan) -> Result<String> {
        self.core.derive(team, plan)
    }

    /// Whether a team may have one more derived template built now.
    ///
    /// # Errors
    /// [`Error::ResourceLimit`] for too many at a time, or as many sandboxes as there may be.
    pub fn check_preparation(&self, team: TeamId, name: &str) -> Result<()> {
        self.core.check_preparation(team, name)
    }

    /// Removes derived templates, of this team and of everybody, that no sandbox stands on and
    /// nobody asked for in `unused_for`; and old builds of others. Returns what is gone.
    ///
    /// # Errors
    /// If the disk says no; what is gone by then stays gone.
    pub async fn prune_templates(
        &self,
        team: TeamId,
        unused_for: Duration,
    ) -> Result<Vec<Arc<Template>>> {
        self.core.prune(team, unused_for).await
    }

    pub fn templates(&self) -> &Templates {
        &self.core.templates
    }

    pub fn limits(&self) -> &Limits {
        &self.core.limits
    }

    /// The domain that clients are told, if one is set.
    pub fn domain(&self) -> Option<&str> {
        self.core.domain.as_deref()
    }

    /// Stops: refuses new sandboxes, finishes those being made or ended, and ends the others if
    /// asked; else they live on and the next [`Control::open`] finds them.
    pub async fn close(&self, kill_sandboxes: bool) {
        self.core.close(kill_sandboxes).await;
    }
}
