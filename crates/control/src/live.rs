//! What is known in memory of the sandboxes that live.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use soulbox_egress::{Authority, Counts, Gate, Traffic};
use soulbox_model::{
    Error, Resources, Result, SandboxId, TeamId, TemplateId,
    network::{Egress, Network},
};
use soulbox_store::SandboxRow;
use tokio::{sync::watch, time::Instant};

use crate::{
    core::{Core, now},
    ingress::PortAccess,
    logs::Journal,
    metrics::History,
    timers::Timers,
    types::{Sandbox, State},
};

/// One sandbox from the moment it runs until nothing of it is left.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) id: SandboxId,
    pub(crate) team: TeamId,
    pub(crate) template_id: TemplateId,
    pub(crate) template_name: String,
    pub(crate) alias: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) resources: Resources,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) access_token: Option<String>,
    pub(crate) ports: Arc<PortAccess>,
    pub(crate) envd_version: String,
    pub(crate) auto_pause: bool,
    network: Mutex<Governed>,
    /// Its way out; `None` while it has none.
    gate: Mutex<Option<Gate>>,
    authority: Mutex<Option<Arc<Authority>>>,
    /// What went through every gate that it had.
    pub(crate) traffic: Arc<Traffic>,
    /// Held while a policy is written, so that the last one set is the last one written.
    pub(crate) saving_network: tokio::sync::Mutex<()>,
    status: Mutex<Status>,
    /// Held while its names are written.
    pub(crate) saving_domains: tokio::sync::Mutex<()>,
    /// Held while the end time is written, so that the last one set is the last one written.
    pub(crate) saving_end: tokio::sync::Mutex<()>,
    pub(crate) ending: watch::Sender<Ending>,
    pub(crate) history: Mutex<History>,
    pub(crate) journal: Journal,
    slot: Mutex<Option<Slot>>,
}

/// What was asked for.
#[derive(Debug, Clone)]
struct Governed {
    allow_internet: Option<bool>,
    network: Option<Network>,
}

#[derive(Debug)]
struct Status {
    running: bool,
    end_at: DateTime<Utc>,
    /// `end_at` on the clock that nobody sets.
    deadline: Instant,
}

/// How far the end of a sandbox is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not begun, or no attempt has failed yet.
    Pending,
    /// An attempt failed; more follow.
    Failing(String),
    Done,
}

impl Live {
    /// From its row. `slot` counts it among the living.
    pub(crate) fn new(core: &Core, row: SandboxRow, slot: Slot) -> Self {
        let access_token = core.access_token(&row);
        let ports = Arc::new(core.port_access(&row));
        let authority = row.authority.as_deref().and_then(|pem| {
            let unusable = |error: &_| tracing::warn!(sandbox = %row.id, %error, "no authority");
            Authority::from_pem(pem).inspect_err(unusable).ok().map(Arc::new)
        });
        Self {
            id: row.id,
            team: row.team,
            template_id: row.template_id,
            template_name: row.template_name,
            alias: row.alias,
            metadata: row.metadata,
            resources: row.resources,
            started_at: row.started_at,
            access_token,
            ports,
            envd_version: row.envd_version,
            auto_pause: row.auto_pause,
            network: Mutex::new(Governed {
                allow_internet: row.allow_internet,
                network: row.network,
            }),
            saving_network: tokio::sync::Mutex::default(),
            gate: Mutex::default(),
            authority: Mutex::new(authority),
            traffic: Arc::default(),
            status: Mutex::new(Status {
                running: true,
                end_at: row.end_at,
                deadline: instant_of(row.end_at),
            }),
            saving_domains: tokio::sync::Mutex::default(),
            saving_end: tokio::sync::Mutex::default(),
            ending: watch::Sender::new(Ending::Pending),
            history: Mutex::new(History::new(0, instant_of(row.started_at))),
            journal: Journal::default(),
            slot: Mutex::new(Some(slot)),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.status.lock().running
    }

    pub(crate) fn state(&self) -> State {
        if self.is_running() { State::Running } else { State::Ending }
    }

    pub(crate) fn end_at(&self) -> DateTime<Utc> {
        self.status.lock().end_at
    }

    pub(crate) fn snapshot(&self, core: &Core) -> Sandbox {
        let governed = self.network.lock().clone();
        Sandbox {
            id: self.id.clone(),
            team: self.team,
            template_id: self.template_id.clone(),
            template_name: self.template_name.clone(),
            alias: self.alias.clone(),
            state: self.state(),
            metadata: self.metadata.clone(),
            resources: self.resources,
            started_at: self.started_at,
            end_at: self.end_at(),
            access_token: self.access_token.clone(),
            traffic_token: self.ports.token().map(str::to_owned),
            envd_version: self.envd_version.clone(),
            domain: core.domain.clone(),
            auto_pause: self.auto_pause,
            allow_internet: governed.allow_internet,
            network: governed.network,
        }
    }

    /// Both directions, as asked for or as the defaults say.
    pub(crate) fn network(&self) -> Network {
        let governed = self.network.lock();
        let network = governed.network.clone();
        network.unwrap_or_else(|| Network::of_internet(governed.allow_internet))
    }

    /// `allow_internet` of `None` leaves what is told of that flag.
    pub(crate) fn set_network(&self, network: Network, allow_internet: Option<bool>) {
        let mut governed = self.network.lock();
        governed.network = Some(network);
        governed.allow_internet = allow_internet.or(governed.allow_internet);
    }

    /// Gives it a way out, or takes it away: what went through it is cut.
    pub(crate) fn set_gate(&self, gate: Option<Gate>) {
        let before = std::mem::replace(&mut *self.gate.lock(), gate);
        drop(before);
    }

    /// Who opens TLS for its rules, once a rule needed that.
    pub(crate) fn authority(&self) -> Option<Arc<Authority>> {
        self.authority.lock().clone()
    }

    /// The sandbox trusts `authority` from now on.
    pub(crate) fn set_authority(&self, authority: Arc<Authority>) {
        if let Some(gate) = &*self.gate.lock() {
            gate.trusts(Arc::clone(&authority));
        }
        *self.authority.lock() = Some(authority);
    }

    /// Holds its way out to another policy from now on.
    pub(crate) fn govern(&self, egress: Egress) {
        if let Some(gate) = &*self.gate.lock() {
            gate.set(egress);
        }
    }

    /// Starts the timer.
    pub(crate) fn arm(&self, timers: &Timers) {
        let status = self.status.lock();
        if status.running {
            timers.set(&self.id, None, status.deadline);
        }
    }

    /// Moves the end to what `choose` makes of the present one.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the sandbox is ending.
    pub(crate) fn reschedule(
        &self,
        timers: &Timers,
        choose: impl FnOnce(DateTime<Utc>) -> DateTime<Utc>,
    ) -> Result<()> {
        let mut status = self.status.lock();
        if !status.running {
            return Err(Error::Conflict(format!("sandbox `{}` is ending", self.id)));
        }
        let end_at = choose(status.end_at);
        if end_at != status.end_at {
            let deadline = instant_of(end_at);
            timers.set(&self.id, Some(status.deadline), deadline);
            status.end_at = end_at;
            status.deadline = deadline;
        }
        Ok(())
    }

    /// Makes the end irrevocable if it has not begun and `wanted` says so of the deadline. Returns
    /// whether this call did.
    pub(crate) fn begin_end(&self, timers: &Timers, wanted: impl FnOnce(Instant) -> bool) -> bool {
        let mut status = self.status.lock();
        if !status.running || !wanted(status.deadline) {
            return false;
        }
        status.running = false;
        timers.remove(&self.id, status.deadline);
        true
    }

    /// No longer counts among the living.
    pub(crate) fn free_slot(&self) {
        self.slot.lock().take();
    }
}

/// When `time` will be on the monotonic clock; the past is now.
fn instant_of(time: DateTime<Utc>) -> Instant {
    let now_instant = Instant::now();
    match (time - now()).to_std() {
        Ok(ahead) => now_instant.checked_add(ahead).unwrap_or(now_instant),
        Err(_) => {
            let behind = (now() - time).to_std().unwrap_or_default();
            now_instant.checked_sub(behind).unwrap_or(now_instant)
        }
    }
}

type TokenHash = [u8; 32];

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}

/// All living sandboxes of this server.
#[derive(Debug)]
pub(crate) struct Registry {
    sandboxes: RwLock<HashMap<SandboxId, Arc<Live>>>,
    /// By the hash of the access token, so that a look-up's duration tells nothing about tokens.
    by_token: RwLock<HashMap<TokenHash, SandboxId>>,
    /// Of those that are no more.
    past: Mutex<HashMap<TeamId, Tally>>,
    used: Arc<AtomicU32>,
    limit: u32,
}

/// What the sandboxes of a team did in all, since this server began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub living: u64,
    pub ended: u64,
    pub network: Counts,
}

/// One of the sandboxes that may live at the same time.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicU32>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Registry {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            sandboxes: RwLock::default(),
            by_token: RwLock::default(),
            past: Mutex::default(),
            used: Arc::default(),
            limit,
        }
    }

    /// # Errors
    /// [`Error::ResourceLimit`] if all are taken.
    pub(crate) fn take_slot(&self) -> Result<Slot> {
        self.used
            .try_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used < self.limit).then_some(used + 1)
            })
            .map(|_| Slot(Arc::clone(&self.used)))
            .map_err(|used| self.full(used))
    }

    /// # Errors
    /// As [`Self::take_slot`], and takes none.
    pub(crate) fn check_slot(&self) -> Result<()> {
        let used = self.slots_used();
        if used < self.limit { Ok(()) } else { Err(self.full(used)) }
    }

    fn full(&self, used: u32) -> Error {
        Error::ResourceLimit {
            resource: "concurrent sandboxes".into(),
            current: used.into(),
            limit: self.limit.into(),
        }
    }

    /// For a sandbox that lives already, beyond the limit if need be.
    pub(crate) fn adopt_slot(&self) -> Slot {
        self.used.fetch_add(1, Ordering::AcqRel);
        Slot(Arc::clone(&self.used))
    }

    pub(crate) fn slots_used(&self) -> u32 {
        self.used.load(Ordering::Acquire)
    }

    pub(crate) fn insert(&self, live: Arc<Live>) {
        if let Some(token) = &live.access_token {
            self.by_token.write().insert(hash(token), live.id.clone());
        }
        self.sandboxes.write().insert(live.id.clone(), live);
    }

    pub(crate) fn remove(&self, live: &Live) {
        let mut sandboxes = self.sandboxes.write();
        if sandboxes.remove(&live.id).is_some() {
            // Under both locks: nobody sees it counted twice, or not at all.
            let mut past = self.past.lock();
            let tally = past.entry(live.team).or_default();
            tally.ended += 1;
            tally.network += live.traffic.counts();
        }
        drop(sandboxes);
        if let Some(token) = &live.access_token {
            self.by_token.write().remove(&hash(token));
        }
    }

    pub(crate) fn tally(&self, team: TeamId) -> Tally {
        let sandboxes = self.sandboxes.read();
        let mut tally = self.past.lock().get(&team).copied().unwrap_or_default();
        for live in sandboxes.values().filter(|live| live.team == team) {
            tally.living += 1;
            tally.network += live.traffic.counts();
        }
        tally
    }

    pub(crate) fn by_token(&self, token: &str) -> Option<SandboxId> {
        self.by_token.read().get(&hash(token)).cloned()
    }

    /// The sandbox whose token fits, if one does; asks of each in turn.
    pub(crate) fn by_fitting_token(&self, fits: &dyn Fn(&str) -> bool) -> Option<SandboxId> {
        let sandboxes = self.sandboxes.read();
        let fitting =
            sandboxes.values().find(|live| live.access_token.as_deref().is_some_and(fits));
        fitting.map(|live| live.id.clone())
    }

    pub(crate) fn get(&self, id: &SandboxId) -> Option<Arc<Live>> {
        self.sandboxes.read().get(id).cloned()
    }

    pub(crate) fn of_team(&self, team: TeamId, id: &SandboxId) -> Option<Arc<Live>> {
        self.get(id).filter(|live| live.team == team)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        self.sandboxes.read().values().cloned().collect()
    }
}
