//! The handshake between an engine and the agent that is PID 1 of a sandbox.
//!
//! The engine starts the agent in empty namespaces, then sends one [`Bind`] with the
//! file descriptors that [`Bind::fds`] names, in that order, over the socket that the agent
//! inherited as descriptor [`SOCKET_FD`]. The agent enters its root and answers one [`Ready`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{SandboxId, TemplateId};

/// The descriptor on which a started agent finds its `SOCK_SEQPACKET` boot socket.
pub const SOCKET_FD: i32 = 3;

/// The largest boot message, in bytes.
pub const MAX_MESSAGE: usize = 192 * 1024;

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
    pub hostname: String,
    /// Wall clock start of the sandbox, in milliseconds since 1970.
    pub started_at_ms: i64,
}

/// What a descriptor sent along with [`Bind`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindFd {
    /// Detached mount: the root file system.
    Root,
    /// Detached mount to attach at this absolute path in the new root.
    Mount { target: String },
    /// Listening `AF_UNIX` socket for clients; checks the access token.
    ClientListener,
    /// Listening `AF_UNIX` socket for the server alone; checks nothing.
    ControlListener,
    /// Write `0` here to move the caller into the cgroup that user commands run in (cgroup v1 `tasks`).
    UserTasks,
    /// Directory of the cgroup that user commands are cloned into (cgroup v2).
    UserCgroup,
}

/// Engine to agent: become this sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    pub config: AgentConfig,
    pub fds: Vec<BindFd>,
}

/// Agent to engine: the answer to [`Bind`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// Serving on every listener.
    Serving,
    /// Could not become the sandbox; the agent exits.
    Failed { step: String, error: String },
}
