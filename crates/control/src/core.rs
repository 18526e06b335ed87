//! What all parts of control share, and its background work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, SubsecRound, Utc};
use soulbox_engine::Engine;
use soulbox_image::Templates;
use soulbox_model::{Error, Resources, Result, SandboxId, TeamId, network::Domain};
use soulbox_store::Store;
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    archive::Archive,
    derive::{Outward, Workbench},
    domains::Names,
    keys::KeyCache,
    life::{Cause, Requests},
    live::{Live, Registry},
    metrics::SAMPLE_EVERY,
    secrets::Secrets,
    timers::Timers,
    types::{Config, Limits},
};

/// Sandboxes that the engine destroys at the same time.
const DESTROY_AT_ONCE: usize = 8;
/// The longest life that may be configured: 365 days.
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long [`Core::close`] waits for work under way.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(10);
/// How long a repeat of a request is recognized after its sandbox ended.
const REMEMBER_REQUESTS: chrono::Duration = chrono::Duration::hours(24);

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) store: Store,
    pub(crate) templates: Arc<Templates>,
    pub(crate) resources: Resources,
    pub(crate) limits: Limits,
    pub(crate) egress: Arc<soulbox_egress::Service>,
    pub(crate) trusted: Option<String>,
    pub(crate) workbench: Arc<Workbench>,
    pub(crate) domain: Option<String>,
    pub(crate) custom_domains: Vec<Domain>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) names: Names,
    pub(crate) timers: Timers,
    pub(crate) requests: Requests,
    pub(crate) keys: KeyCache,
    pub(crate) archive: Archive,
    pub(crate) destroying: Semaphore,
    /// Sandboxes being made or ended; [`Core::close`] waits for them.
    pub(crate) work: TaskTracker,
    /// Loops and watches that run until `stop`.
    pub(crate) watches: TaskTracker,
    pub(crate) stop: CancellationToken,
    closed: AtomicBool,
}

impl Core {
    pub(crate) fn new(config: Config) -> Result<Arc<Self>> {
        let Config {
            engine,
            store,
            templates,
            resources,
            limits,
            egress,
            trusted,
            domain,
            custom_domains,
        } = config;
        if limits.max_timeout.is_zero() || limits.max_timeout > LONGEST_LIFE {
            return Err(Error::Configuration {
                field: "max_timeout".into(),
                message: "must be more than 0 and at most 365 days".into(),
                span: None,
            });
        }
        let outward = Outward { egress: Arc::clone(&egress), trusted: trusted.clone() };
        let registry = Arc::new(Registry::new(limits.max_sandboxes));
        let workbench = Workbench::of_teams(Arc::clone(&engine), outward, Arc::clone(&registry));
        Ok(Arc::new(Self {
            workbench,
            engine,
            store,
            templates,
            resources,
            limits,
            egress,
            trusted,
            domain,
            custom_domains,
            registry,
            names: Names::default(),
            timers: Timers::default(),
            requests: Requests::default(),
            keys: KeyCache::default(),
            archive: Archive::default(),
            destroying: Semaphore::new(DESTROY_AT_ONCE),
            work: TaskTracker::new(),
            watches: TaskTracker::new(),
            stop: CancellationToken::new(),
            closed: AtomicBool::new(false),
        }))
    }

    /// The team's sandbox of that id, unless it is ending.
    pub(crate) fn running(&self, team: TeamId, id: &SandboxId) -> Result<Arc<Live>> {
        self.registry
            .of_team(team, id)
            .filter(|live| live.is_running())
            .ok_or_else(|| Error::not_found("sandbox", id))
    }

    pub(crate) fn secrets(&self) -> Secrets<'_> {
        Secrets::new(&self.store)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::unavailable("the server is shutting down", Duration::from_secs(5)));
        }
        Ok(())
    }

    /// Starts what runs until `stop`.
    pub(crate) fn start_background(self: &Arc<Self>) {
        let core = Arc::clone(self);
        self.watches.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            loop {
                for id in core.timers.due().await {
                    core.expire(&id);
                }
            }
        }));
        let core = Arc::clone(self);
        self.watches.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            let mut tick = interval(SAMPLE_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                core.save_traffic().await;
                core.sample_all().await;
            }
        }));
        let core = Arc::clone(self);
        self.watches.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            let mut tick = interval(HOUSEKEEPING_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                core.keep_house().await;
            }
        }));
    }

    async fn keep_house(&self) {
        self.archive.prune();
        let templates = Arc::clone(&self.templates);
        // Only the next server's guess at what is still wanted depends on it.
        let _ = tokio::task::spawn_blocking(move || templates.save_uses()).await;
        self.save_key_uses().await;
        if let Err(error) = self.store.prune_idempotency(Utc::now() - REMEMBER_REQUESTS).await {
            tracing::warn!(%error, "could not forget old idempotency keys");
        }
        if let Err(error) = self.store.checkpoint().await {
            tracing::warn!(%error, "could not checkpoint the database");
        }
    }

    pub(crate) async fn close(self: &Arc<Self>, kill_sandboxes: bool) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.work.close();
        if timeout(CLOSE_WITHIN, self.work.wait()).await.is_err() {
            tracing::warn!(left = self.work.len(), "gave up waiting for sandboxes in transition");
        }
        if kill_sandboxes {
            for live in self.registry.all() {
                self.end(&live, Cause::Shutdown);
            }
            if timeout(CLOSE_WITHIN, self.work.wait()).await.is_err() {
                tracing::warn!(left = self.work.len(), "gave up waiting for sandboxes to end");
            }
        }
        self.stop.cancel();
        self.watches.close();
        self.watches.wait().await;
        self.save_key_uses().await;
        for live in self.registry.all() {
            live.set_gate(None);
        }
        self.save_traffic().await;
        self.engine.close().await;
        self.store.close().await;
    }
}

/// Now, as exact as the store keeps it.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
