//! The way out of sandboxes: what one may reach, and the host's dialling in its place.
//!
//! An engine hands over the host's ends of a sandbox's network path ([`Wire`]); [`Service::open`]
//! serves them under a policy until the [`Gate`] is dropped. Every TCP connection arrives here with
//! the destination that the sandbox meant; the policy decides by address or by name, and the host
//! dials from outside. Names are resolved here too, and only those that the policy lets through ever
//! leave the host. Where a rule sets headers or a placeholder waits for its value, requests are opened
//! and sent on (`intercept`). This crate knows nothing of how sandboxes are made. Start with
//! [`policy`], then read `flow`.

mod answer;
mod authority;
mod carry;
mod dial;
mod dns;
mod doors;
mod flow;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod intercept;
mod outside;
mod peek;
pub mod policy;
mod rates;
mod relay;
mod secrets;
mod special;
mod traffic;
mod unsaid;

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use soulbox_model::{
    SecretValue,
    network::{Cidr, Domain, Egress, Pattern, ProxyHost, SecretName},
};

pub use authority::Authority;
pub use gate::Gate;
pub use policy::{Policy, Reason};
pub use special::Special;
pub use traffic::{
    Carried, Counts, Decision, Event, Part, READERS, Reader, Target, Traffic, UsedUp,
};

/// The host's ends of one sandbox's network path.
#[derive(Debug)]
pub struct Wire {
    /// Non-blocking listener; the local address of what it accepts is the destination.
    pub tcp: OwnedFd,
    /// Non-blocking datagram socket at port 53.
    pub udp: OwnedFd,
    pub relay: Relay,
    /// Keeps the path in place while it is open.
    pub steering: OwnedFd,
}

/// The host's ends of what carries datagrams to other ports; see [`soulbox_sys::outward::Relay`].
#[derive(Debug)]
pub struct Relay {
    pub socket: OwnedFd,
    pub answers: [OwnedFd; 2],
    pub doors: OwnedFd,
}

/// How this server lets sandboxes out.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Special ranges, and addresses of this machine, that sandboxes may reach all the same.
    pub private: Vec<Cidr>,
    /// Name servers to ask, in this order; empty takes those of `/etc/resolv.conf`.
    pub name_servers: Vec<SocketAddr>,
}

/// Something that the policy refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// `tcp`, `http` or `dns`.
    pub protocol: &'static str,
    /// Address and port, or the name asked for.
    pub target: String,
    /// In words that its reader can act on.
    pub reason: String,
}

/// In whose name one sandbox goes out.
#[async_trait]
pub trait Owner: Send + Sync + 'static {
    /// Hears what was refused.
    fn denied(&self, denial: Denial);

    /// A secret as it is now; `None` if there is none of that name.
    ///
    /// # Errors
    /// Why that cannot be said, in words for who runs the sandbox.
    async fn secret(&self, name: &SecretName) -> Result<Option<Held>, String>;
}

/// A secret that is held outside of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub value: SecretValue,
    /// Where it may be sent; empty: to any host.
    pub hosts: Vec<Pattern>,
}

impl Held {
    pub fn may_go_to(&self, host: &Domain) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|bound| bound.matches(host))
    }
}

/// Serves the ways out of all sandboxes of one server.
#[derive(Debug)]
pub struct Service {
    config: Config,
    resolver: dns::Resolver,
    /// Read when a rule first needs them.
    roots: Mutex<Option<intercept::Roots>>,
    pipes: carry::Pipes,
    datagrams: relay::Places,
}

/// Pipes of all sandboxes together that bulk transfers may use at a time, each of up to 1 MiB.
const PIPES: usize = 128;
/// Flows of datagrams of all sandboxes together: each takes one of the ports that the machine has for all
/// that it begins, name service too. Who has most gives way.
const DATAGRAMS: usize = 8192;

impl Service {
    pub fn new(config: Config) -> Arc<Self> {
        let resolver = dns::Resolver::new(config.name_servers.clone());
        let pipes = carry::Pipes::new(PIPES);
        let datagrams = relay::Places::new(DATAGRAMS);
        Arc::new(Self { config, resolver, roots: Mutex::default(), pipes, datagrams })
    }

    /// What of a sandbox's rules can only be judged here.
    ///
    /// # Errors
    /// Which field is wrong, and why.
    pub fn check(&self, egress: &Egress) -> Result<(), (&'static str, String)> {
        let Some(proxy) = &egress.proxy else { return Ok(()) };
        if let ProxyHost::Address(address) = proxy.address.host {
            let why = |reason: Reason| ("egressProxy.address", reason.to_string());
            self.policy(egress.clone()).reachable(address).map_err(why)?;
        }
        let Some(pem) = proxy.tls.as_ref().and_then(|tls| tls.ca_cert.as_ref()) else {
            return Ok(());
        };
        let why = |error: io::Error| ("egressProxy.tls.caCert", error.to_string());
        outside::trusting(pem).map(drop).map_err(why)
    }

    /// Serves a sandbox's way out from now on, until the gate is dropped.
    ///
    /// # Errors
    /// If the runtime cannot watch the sockets.
    pub fn open(
        self: &Arc<Self>,
        wire: Wire,
        egress: Egress,
        authority: Option<Arc<Authority>>,
        traffic: Arc<Traffic>,
        owner: Arc<dyn Owner>,
    ) -> io::Result<Gate> {
        Gate::open(Arc::clone(self), wire, egress, authority, traffic, owner)
    }

    fn roots(&self) -> io::Result<intercept::Roots> {
        let mut roots = self.roots.lock();
        if let Some(roots) = &*roots {
            return Ok(roots.clone());
        }
        let found = intercept::Roots::of_machine()?;
        *roots = Some(found.clone());
        Ok(found)
    }

    fn policy(&self, egress: Egress) -> Policy {
        Policy::new(egress, &self.config.private)
    }
}
