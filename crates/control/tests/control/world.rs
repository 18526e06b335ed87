//! A server on a machine, and what tests say to it.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use soulbox_control::{Config, Control, Create, Limits};
use soulbox_image::{HOST, Templates};
use soulbox_model::{Error, Resources, SandboxId, TeamId};
use soulbox_store::Store;
use tokio::time::Instant;

use crate::machine::Machine;

pub struct World {
    pub machine: Arc<Machine>,
    /// The data directory.
    pub dir: tempfile::TempDir,
    pub limits: Limits,
    pub control: Control,
    pub team: TeamId,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        let machine = Machine::new();
        let dir = tempfile::tempdir().unwrap();
        let templates = Templates::open(dir.path().join("templates")).unwrap();
        templates.build(HOST, |_| {}).await.unwrap();
        let (control, team) = start(&machine, dir.path(), limits).await;
        Self { machine, dir, limits, control, team }
    }

    pub async fn store(&self) -> Store {
        Store::open(self.dir.path().join("soulbox.db")).await.unwrap()
    }

    /// The server dies and another one starts.
    pub async fn crash(self) -> Self {
        let Self { machine, dir, limits, control, .. } = self;
        drop(control);
        let (control, team) = start(&machine, dir.path(), limits).await;
        Self { machine, dir, limits, control, team }
    }

    pub async fn create(&self, seconds: u64) -> soulbox_control::Sandbox {
        self.control.create(self.team, request(seconds)).await.unwrap()
    }

    /// The state that the database has of a sandbox.
    /// Does what no server would to the row of a sandbox.
    pub async fn sql(&self, change: &str, id: &SandboxId) {
        let statement = format!("{change} WHERE id = '{id}'");
        let file = self.dir.path().join("soulbox.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let done = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
        pool.close().await;
    }

    pub async fn row(&self, id: &SandboxId) -> Option<soulbox_store::SandboxRow> {
        let loaded = self.store().await.sandboxes().await.unwrap();
        assert!(loaded.unreadable.is_empty());
        loaded.rows.into_iter().find(|row| row.id == *id)
    }
}

async fn start(machine: &Arc<Machine>, dir: &std::path::Path, limits: Limits) -> (Control, TeamId) {
    let store = Store::open(dir.join("soulbox.db")).await.unwrap();
    let team = store.default_team().id;
    let config = Config {
        engine: machine.engine(),
        egress: soulbox_egress::Service::new(soulbox_egress::Config::default()),
        trusted: None,
        store,
        templates: Arc::new(Templates::open(dir.join("templates")).unwrap()),
        resources: Resources::default(),
        limits,
        domain: Some("box.test".into()),
        custom_domains: vec!["example".parse().unwrap()],
    };
    (Control::open(config).await.unwrap(), team)
}

pub fn request(seconds: u64) -> Create {
    Create {
        template: HOST.into(),
        timeout: Duration::from_secs(seconds),
        metadata: BTreeMap::new(),
        env: BTreeMap::new(),
        env_secrets: false,
        secure: true,
        auto_pause: false,
        allow_internet: None,
        network: None,
        shape: Default::default(),
        idempotency_key: None,
    }
}

pub fn keyed(seconds: u64, key: &str) -> Create {
    Create { idempotency_key: Some(key.into()), ..request(seconds) }
}

pub fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Waits until `condition` holds and returns how long that took.
pub async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) -> Duration {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

#[track_caller]
pub fn status<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    result.unwrap_err().http_status()
}
