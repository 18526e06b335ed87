//! What an isolation engine is: the [`Engine`] trait and the types that cross it.
//!
//! `control` drives engines through this trait and nothing else. An engine owns everything that the
//! kernel holds for a sandbox (namespaces, mounts, cgroups, sockets, its writable layer) and
//! gives it back on [`Engine::destroy`]. It knows nothing of teams, timeouts or HTTP.
//!
//! Start with [`Engine`], whose methods stand in the order of a sandbox's life.

mod conduit;
mod error;

use std::{
    collections::HashSet,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
pub use conduit::Conduit;
pub use error::{ConnectError, Error, Result};
use serde::{Deserialize, Serialize};
pub use soulbox_model::resources::Usage;
use soulbox_model::{Port, Resources, SandboxId, boot::AgentConfig};

/// What kind of sandbox to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    pub rootfs: Rootfs,
    pub resources: Resources,
}

/// A sandbox that [`Engine::reserve`] set aside: all of it may exist already, but nobody else's code
/// has run in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reserved {
    pub id: SandboxId,
    pub record: Record,
}

/// The read-only part of a root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Directories joined by overlayfs, uppermost first; never written to.
    pub layers: Vec<PathBuf>,
    /// Host directories that appear read-only inside.
    pub binds: Vec<Bind>,
    /// What is taken from it.
    #[serde(default)]
    pub without: Without,
}

/// What a root file system can do without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Without {
    /// Set-user-id files and file capabilities gain nothing.
    pub setuid: bool,
    /// Nothing can be written but `/tmp` and `/run`, which lie in memory.
    pub writes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    pub source: PathBuf,
    /// Absolute path inside; the directory must exist in a layer.
    pub target: PathBuf,
}

/// The host's ends of a sandbox's way out; see [`Engine::wire`].
#[derive(Debug)]
pub struct Wire {
    /// Non-blocking listener: what connects to anywhere from inside arrives here, and its local
    /// address is where it meant to go.
    pub tcp: OwnedFd,
    /// Non-blocking datagram socket, which gets what is sent to port 53 of anywhere.
    pub udp: OwnedFd,
    /// What datagrams to other ports go through.
    pub relay: Relay,
    /// Keeps the way in place while it is open.
    pub steering: OwnedFd,
}

/// The host's ends of what carries datagrams to ports that are opened.
#[derive(Debug)]
pub struct Relay {
    /// Non-blocking datagram socket.
    pub socket: OwnedFd,
    /// Raw sockets for answers, over IPv4 and IPv6.
    pub answers: [OwnedFd; 2],
    /// The table of open ports in the kernel.
    pub doors: OwnedFd,
}

/// What [`Engine::freeze`] kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Where in the directory the layer begins.
    pub layer: PathBuf,
    /// What it takes on disk.
    pub bytes: u64,
}

/// What an engine must remember to find a sandbox again after a restart; opaque to others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(pub serde_json::Value);

/// Where in a sandbox to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The agent, as clients reach it: it checks the access token.
    Agent,
    /// The agent's private side, for the server alone.
    Control,
    /// A TCP port on the sandbox's loopback.
    Port(Port),
}

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// [`Engine::destroy`] ended it.
    Destroyed,
    /// Its PID 1 ended by itself or was killed.
    AgentDied { oom: bool },
}

/// One thing that `doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What to do about it, when something can be done.
    pub advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    Ok,
    /// Works with a fallback or without a feature.
    Degraded,
    /// No sandbox can be made.
    Missing,
}

/// Makes and ends sandboxes. Every method may be called from any task at any time.
#[async_trait]
pub trait Engine: Send + Sync + std::fmt::Debug {
    fn name(&self) -> &'static str;

    /// Sets a sandbox aside, made now or ahead. It belongs to the caller until [`Engine::destroy`],
    /// and dies with this process until it is started. On error nothing is left behind.
    async fn reserve(&self, spec: SandboxSpec) -> Result<Reserved>;

    /// Starts a reserved sandbox; its agent serves when this returns. On error nothing is left of it.
    async fn start(&self, id: &SandboxId, agent: AgentConfig) -> Result<()>;

    /// Takes over a sandbox that an earlier process of this server made; a success if it is known already.
    ///
    /// # Errors
    /// [`Error::Gone`] if it no longer lives; its remains are then removed by [`Engine::sweep`].
    async fn adopt(&self, id: &SandboxId, record: &Record) -> Result<()>;

    /// Ends a sandbox and removes all it had. Ending an unknown one is a success. Returns when its
    /// processes are dead; files and namespaces may be removed in the background.
    async fn destroy(&self, id: &SandboxId) -> Result<()>;

    /// Ends a sandbox and keeps what it wrote as the directory `into`, which must not exist, on the
    /// file system of the engine's store. Files have the ids 0 to 65535 there, as in every layer of
    /// a template, and nothing changes them any more. On error nothing is left, neither of the
    /// sandbox nor of the layer.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by an engine that keeps no layers; [`Error::Gone`].
    async fn freeze(&self, id: &SandboxId, into: &Path) -> Result<Frozen> {
        let _ = into;
        self.destroy(id).await?;
        Err(Error::Unsupported(format!("the engine `{}` keeps no layers", self.name())))
    }

    /// Gives up what it made ahead of `layer`, which is about to be deleted and which no sandbox uses.
    async fn release(&self, layer: &Path) {
        let _ = layer;
    }

    /// Removes what belongs to no sandbox in `keep`; called once at start. Returns how many it removed.
    async fn sweep(&self, keep: &HashSet<SandboxId>) -> Result<usize>;

    async fn usage(&self, id: &SandboxId) -> Result<Usage>;

    /// Opens a byte stream into the sandbox.
    async fn connect(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError>;

    /// The host's ends of the way out of a sandbox that runs. Whoever holds them decides
    /// what it reaches; without them it reaches nothing. To be asked for once in the life of a server.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this engine or kernel has no such way.
    async fn wire(&self, id: &SandboxId) -> Result<Wire> {
        Err(Error::Unsupported(format!("sandbox `{id}` has no way out with this engine")))
    }

    /// Waits until the sandbox has ended. An unknown one has.
    async fn wait(&self, id: &SandboxId) -> Exit;

    /// Finishes background work; sandboxes stay alive.
    async fn close(&self);
}
