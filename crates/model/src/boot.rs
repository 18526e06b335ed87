//! The handshake between an engine and the agent that is PID 1 of a sandbox.
//!
//! The engine starts the agent in empty namespaces and talks to it over the stream socket that
//! the agent inherits as descriptor 3. It sends three [`Message`]s, each a length
//! (`u32`, little endian) and that much JSON, with file descriptors attached to the first byte.
//! [`Message::Prepare`] holds what does not depend on the template, [`Message::Root`] what does,
//! and [`Message::Start`] what only the request for a sandbox tells; each may come long after the
//! one before. The agent answers the last with one [`Ready`], and with one wherever it fails.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{SandboxId, TemplateId};

/// The largest boot message, in bytes.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Who the sandbox is and how its commands run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentConfig {
    pub sandbox_id: SandboxId,
    pub template_id: TemplateId,
    /// Required in `X-Access-Token` when set.
    pub access_token: Option<String>,
    /// The user that commands run as when a request names none.
    pub default_user: String,
    /// Where commands run when a request names no directory; the user's home when absent.
    pub default_workdir: Option<String>,
    /// Added to the environment of every command.
    pub env: BTreeMap<String, String>,
    /// Certificates (PEM) that the sandbox trusts beside those of its template.
    #[serde(default)]
    pub ca_bundle: Option<String>,
    /// Wall clock start of the sandbox, in milliseconds since 1970.
    pub started_at_ms: i64,
}

/// Engine to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The process gets its host name and four descriptors: detached mounts of `/dev` and `/sys`, a
    /// listening `AF_UNIX` socket for clients, who need the access token, and one for the server alone.
    Prepare { hostname: String },
    /// Detached mounts: the root file system, and one to attach at each of these absolute paths in it.
    Root { mounts: Vec<String> },
    /// Nobody else's code has run up to here.
    Start { config: Box<AgentConfig> },
}

/// Agent to engine: the answer to [`Message::Start`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// Serving on every listener.
    Serving,
    /// Could not become the sandbox; the agent exits.
    Failed { step: String, error: String },
}
