//! What callers hand in and get back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use soulbox_engine::Engine;
use soulbox_image::Templates;
use soulbox_model::{
    LONGEST_LIFE, Resources, SandboxId, TeamId, TemplateId,
    network::{Domain, Network},
};
use soulbox_store::Store;
use uuid::Uuid;

pub use soulbox_store::SandboxState as State;

/// What [`Control`](crate::Control) is made of.
#[derive(Debug)]
pub struct Config {
    pub engine: Arc<dyn Engine>,
    pub store: Store,
    pub templates: Arc<Templates>,
    /// Of every sandbox.
    pub resources: Resources,
    pub limits: Limits,
    /// Serves the ways out of sandboxes.
    pub egress: Arc<soulbox_egress::Service>,
    /// Certificates (PEM) that every sandbox trusts beside those of its template.
    pub trusted: Option<String>,
    /// Told to clients, who build sandbox host names with it; `None` leaves them their own.
    pub domain: Option<String>,
    /// Those of whose names, themselves included, sandboxes may take some for their own.
    pub custom_domains: Vec<Domain>,
}

/// What this server grants at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sandboxes alive at the same time.
    pub max_sandboxes: u32,
    /// The longest life of a sandbox, counted from its start.
    pub max_timeout: Duration,
    /// The life of a sandbox whose request names none.
    pub default_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sandboxes: 1000,
            max_timeout: LONGEST_LIFE,
            default_timeout: Duration::from_secs(15),
        }
    }
}

/// Who a request is from, as its API key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub team: TeamId,
    pub key_id: Uuid,
}

/// A request for a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Create {
    /// Name or id.
    pub template: String,
    /// Longer than zero, at most [`Limits::max_timeout`].
    pub timeout: Duration,
    pub metadata: BTreeMap<String, String>,
    /// Added to the environment of every command.
    pub env: BTreeMap<String, String>,
    /// Whether `$NAME` in a value of `env` is the secret of that name.
    pub env_secrets: bool,
    /// Whether the agent demands an access token.
    pub secure: bool,
    /// Pause at the timeout instead of ending; not served yet.
    pub auto_pause: bool,
    pub allow_internet: Option<bool>,
    /// `None`: as `allow_internet` says.
    pub network: Option<Network>,
    /// What it is beyond what every sandbox of this server is.
    pub shape: Shape,
    /// 1 to 255 printable characters. A repeat with the same key returns the same sandbox.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
}

/// How a sandbox differs from the others of its server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Hard limits instead of the server's own.
    pub resources: Option<Resources>,
    /// Set-user-id files, `sudo` among them, gain nothing.
    pub no_setuid: bool,
    /// Nothing can be written but `/tmp` and `/run`.
    pub read_only: bool,
}

/// A sandbox at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    pub id: SandboxId,
    pub team: TeamId,
    pub template_id: TemplateId,
    pub template_name: String,
    /// The name under which the template is asked for.
    pub alias: Option<String>,
    pub state: State,
    pub metadata: BTreeMap<String, String>,
    pub resources: Resources,
    /// When its agent was ready.
    pub started_at: DateTime<Utc>,
    pub end_at: DateTime<Utc>,
    /// What the agent demands in `X-Access-Token`; `None` for an insecure sandbox.
    pub access_token: Option<String>,
    /// What requests to its ports must bear; `None` where anybody may come.
    pub traffic_token: Option<String>,
    /// Of the agent in this sandbox, which may be older than this server.
    pub envd_version: String,
    pub domain: Option<String>,
    pub auto_pause: bool,
    pub allow_internet: Option<bool>,
    pub network: Option<Network>,
}

impl Sandbox {
    pub fn secure(&self) -> bool {
        self.access_token.is_some()
    }
}

/// Which sandboxes to list; the default is all that run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Each of these pairs must be in the sandbox's metadata.
    pub metadata: BTreeMap<String, String>,
    /// `None`: the running ones. An empty set matches nothing.
    pub states: Option<BTreeSet<State>>,
    /// Template id or name.
    pub template: Option<String>,
    /// Started then or later.
    pub started_after: Option<DateTime<Utc>>,
    pub order: Order,
}

/// Order by start time; sandboxes of the same microsecond follow their ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Descending,
    Ascending,
}

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// 1 to [`Page::MAX`].
    pub limit: usize,
    /// [`Listed::next`] of the page before.
    pub token: Option<String>,
}

impl Page {
    pub const MAX: usize = 100;
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: Self::MAX, token: None }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub items: Vec<Sandbox>,
    /// The token of the next page; `None` on the last.
    pub next: Option<String>,
    /// Running sandboxes that match the filter, on all pages together.
    pub total_running: usize,
}

/// What a sandbox used at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub timestamp: DateTime<Utc>,
    /// Whole cores granted, at least one.
    pub cpu_count: u32,
    /// Percent of the granted CPU time since the sample before, 0 to 100.
    pub cpu_used_pct: f32,
    /// Bytes, like all that follow.
    pub mem_total: u64,
    /// Page cache included.
    pub mem_used: u64,
    pub mem_cache: u64,
    pub disk_total: u64,
    pub disk_used: u64,
}

/// Which log lines of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Forward: from here on; backward: up to here. `None`: the start, or now.
    pub cursor: Option<DateTime<Utc>>,
    /// 0 to [`LogQuery::MAX`].
    pub limit: usize,
    pub direction: Direction,
    /// Nothing below it.
    pub level: Option<Level>,
    /// The message must contain it; at most 256 bytes.
    pub search: Option<String>,
}

impl LogQuery {
    pub const MAX: usize = 1000;
}

impl Default for LogQuery {
    fn default() -> Self {
        Self {
            cursor: None,
            limit: Self::MAX,
            direction: Direction::Backward,
            level: None,
            search: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The level of this name, in any case; `None` for an unknown one.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "trace" | "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            _ => None,
        }
    }
}

/// One line of a sandbox's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub timestamp: DateTime<Utc>,
    pub level: Level,
    pub message: String,
    pub fields: BTreeMap<String, String>,
}
