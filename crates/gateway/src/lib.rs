//! The data plane and the server's listener: accepts HTTP/1.1, HTTP/2 and TLS on one port, decides
//! per request whether it is for a sandbox or for the API, and relays the former into the sandbox.
//!
//! It streams both ways without holding bodies, speaks HTTP/1.1 (HTTP/2 for gRPC) to the sandbox over
//! [`Conduit`]s that [`Sandboxes::dial`] opens, and answers what it cannot deliver as E2B's edge does.
//! It lets nobody in to private ports without their token (the agent checks its own), nor to ports that a
//! sandbox does not expose, and knows nothing of a sandbox's life.
//!
//! Start with [`serve`] and `route.rs` (whose request is it), then `ingress.rs` (may it go there) and
//! `proxy.rs` (how it is relayed).

mod answer;
mod body;
mod control;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod headers;
mod ingress;
mod inside;
mod limits;
mod link;
mod listener;
mod page;
mod pool;
mod proxy;
mod route;
mod socket;
pub mod tls;
mod tunnel;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
pub use listener::serve;
pub use soulbox_control::PortAccess;
use soulbox_engine::{Conduit, ConnectError, Target};
use soulbox_model::{Port, SandboxId};

/// What the gateway needs to know of sandboxes.
#[async_trait]
pub trait Sandboxes: Send + Sync + 'static {
    /// Opens a byte stream into a running sandbox.
    ///
    /// # Errors
    /// [`ConnectError::NotRunning`] for an unknown or ended sandbox, [`ConnectError::PortClosed`] where
    /// nothing listens.
    async fn dial(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError>;

    /// How the ports of a running sandbox are reached; `None` for an unknown or ended one. Asked for
    /// every request, so it must be quick.
    fn port_access(&self, id: &SandboxId) -> Option<Arc<PortAccess>>;

    /// The running sandbox whose agent asks for this access token. Some old clients name the
    /// sandbox in no other way when all data-plane traffic goes to one address.
    fn by_access_token(&self, _token: &str) -> Option<SandboxId> {
        None
    }

    /// The running sandbox whose access token `fits`: all that a signed link to a file says of its sandbox
    /// when all data-plane traffic goes to one address.
    fn by_fitting_token(&self, _fits: &dyn Fn(&str) -> bool) -> Option<SandboxId> {
        None
    }

    /// The running sandbox that a name of its own leads to, and the port. Asked for every request whose
    /// host has not the form of a sandbox's, so it must be quick.
    fn by_domain(&self, _name: &str) -> Option<(SandboxId, Port)> {
        None
    }
}

#[async_trait]
impl<S: Sandboxes + ?Sized> Sandboxes for Arc<S> {
    async fn dial(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError> {
        (**self).dial(id, target).await
    }

    fn port_access(&self, id: &SandboxId) -> Option<Arc<PortAccess>> {
        (**self).port_access(id)
    }

    fn by_access_token(&self, token: &str) -> Option<SandboxId> {
        (**self).by_access_token(token)
    }

    fn by_fitting_token(&self, fits: &dyn Fn(&str) -> bool) -> Option<SandboxId> {
        (**self).by_fitting_token(fits)
    }

    fn by_domain(&self, name: &str) -> Option<(SandboxId, Port)> {
        (**self).by_domain(name)
    }
}

/// Limits and names; the default suits one machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sandboxes are served at `<port>-<id>.<domain>` and `<port>-<id>.localhost` alone; at any domain
    /// when absent. A port after the name is ignored.
    pub domain: Option<String>,
    /// Client connections at a time; more wait in the kernel's backlog. Also held below what the
    /// process's limit of open files allows.
    pub max_connections: usize,
    /// Of those, connections of one address (of IPv6: one /64); more are closed at once.
    pub max_connections_per_client: usize,
    /// Requests of one address in a second, on average over two; more are answered 429.
    pub max_request_rate_per_client: u32,
    /// Whether the two limits above are for clients on this machine too, where everything that comes
    /// through a proxy in front of the gateway comes from.
    pub limit_loopback: bool,
    /// Requests and tunnels into one sandbox at a time; more are answered 429.
    pub max_requests_per_sandbox: usize,
    /// Requests into one sandbox in a second, on average over two; more are answered 429.
    pub max_request_rate_per_sandbox: u32,
    /// How long a connection may take to send one request's headers.
    pub header_timeout: Duration,
    /// How long a connection without a request may stay.
    pub idle_timeout: Duration,
    /// How long requests in flight may go on after shutdown began.
    pub drain: Duration,
    /// With TLS on: whether clients from other machines may still speak plain HTTP on this port.
    pub remote_cleartext: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: None,
            max_connections: 10_000,
            max_connections_per_client: 1_000,
            max_request_rate_per_client: 2_000,
            limit_loopback: false,
            max_requests_per_sandbox: 2_048,
            max_request_rate_per_sandbox: 20_000,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(620),
            drain: Duration::from_secs(10),
            remote_cleartext: false,
        }
    }
}

/// Relays requests into sandboxes; cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    sandboxes: Box<dyn Sandboxes>,
    config: Config,
    pool: Arc<pool::Pool>,
    inside: inside::Inside,
}

impl Gateway {
    /// # Errors
    /// [`TlsError::Tls`](tls::TlsError) where this program has no cipher suite to speak TLS with.
    pub fn new(sandboxes: impl Sandboxes, mut config: Config) -> Result<Self, tls::TlsError> {
        config.domain = config.domain.as_deref().and_then(route::domain_name);
        let pool = Arc::new(pool::Pool::new(
            config.max_requests_per_sandbox,
            config.max_request_rate_per_sandbox,
        ));
        let (sandboxes, inside) = (Box::new(sandboxes), inside::Inside::new()?);
        Ok(Self { inner: Arc::new(Inner { sandboxes, config, pool, inside }) })
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("config", &self.inner.config).finish_non_exhaustive()
    }
}
