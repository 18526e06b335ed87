//! What the whole agent shares: the settings that `/init` may change, the processes, the log.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;
use soulbox_model::boot::AgentConfig;

use crate::{fs::Watchers, log::Log, metrics, process::Table, trust};

/// The one state behind every request.
#[derive(Debug)]
pub struct State {
    settings: RwLock<Settings>,
    pub processes: Table,
    pub watchers: Watchers,
    pub log: Log,
    pub previous_metrics: metrics::Previous,
}

/// What requests fall back to.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Requests must carry it when set.
    pub access_token: Option<Arc<str>>,
    /// Acts when a request names no user.
    pub default_user: String,
    /// Where commands run and empty paths lead; the acting user's home when absent.
    pub default_workdir: Option<String>,
    /// Set for every command; nobody can change these but the request for a command.
    pub internal_env: BTreeMap<String, String>,
    /// Set for every command; replaced as a whole by `/init`.
    pub env: BTreeMap<String, String>,
    /// Whether `/` is that of a sandbox, whose certificates may be changed; of a machine's own never.
    pub in_sandbox: bool,
    /// Of the last `/init` that was applied, in nanoseconds since 1970.
    pub applied_at: Option<i64>,
}

impl From<AgentConfig> for Settings {
    fn from(config: AgentConfig) -> Self {
        let internal_env = BTreeMap::from([
            ("E2B_SANDBOX".to_owned(), "true".to_owned()),
            ("E2B_SANDBOX_ID".to_owned(), config.sandbox_id.to_string()),
            ("E2B_TEMPLATE_ID".to_owned(), config.template_id.to_string()),
        ]);
        let mut env = config.env;
        if config.ca_bundle.is_some() {
            trust::point_to(&mut env);
        }
        Self {
            access_token: config.access_token.map(Into::into),
            default_user: config.default_user,
            default_workdir: config.default_workdir.filter(|dir| !dir.is_empty()),
            internal_env,
            env,
            in_sandbox: true,
            applied_at: None,
        }
    }
}

impl Settings {
    /// The environment that every command gets; internal variables win.
    pub fn global_env(&self) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.extend(self.internal_env.clone());
        env
    }
}

impl State {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: RwLock::new(settings),
            processes: Table::default(),
            watchers: Watchers::default(),
            log: Log::default(),
            previous_metrics: metrics::Previous::default(),
        }
    }

    pub fn access_token(&self) -> Option<Arc<str>> {
        self.settings.read().access_token.clone()
    }

    pub fn default_user(&self) -> String {
        self.settings.read().default_user.clone()
    }

    pub fn default_workdir(&self) -> Option<String> {
        self.settings.read().default_workdir.clone()
    }

    /// See [`Settings::global_env`].
    pub fn global_env(&self) -> BTreeMap<String, String> {
        self.settings.read().global_env()
    }

    /// Reads and changes the settings in one step.
    pub fn with_settings<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> T {
        change(&mut self.settings.write())
    }
}
