//! Connecting from the host in a sandbox's place.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use soulbox_linger::keep_alive;
use soulbox_model::{
    Error, RetryPolicy, Retryable,
    network::{Domain, ProxyHost, UpstreamProxy},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_socks::{TargetAddr, tcp::Socks5Stream};

use crate::{
    Service,
    dns::Turns,
    outside::Outside,
    policy::{Passed, Policy, Reason, Verdict},
};

/// How long a proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one address may take to answer, so that each of a name has its turn.
const EACH: Duration = Duration::from_secs(5);
/// How long all of it may take, name service, every address and every attempt: a program waits.
const IN_ALL: Duration = Duration::from_secs(20);
/// Addresses of a name that are tried.
const ATTEMPTS: usize = 4;

/// For what the program behind the connection would not call an answer.
const AGAIN: RetryPolicy = RetryPolicy {
    attempts: 3,
    first_delay: Duration::from_millis(100),
    factor: 2.0,
    max_delay: Duration::from_secs(1),
    total: Duration::from_secs(5),
};

const PROXY: &str = "the egress proxy";

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Undialled {
    Refused(Reason),
    Failed(io::Error),
}

impl From<io::Error> for Undialled {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Error> for Undialled {
    fn from(error: Error) -> Self {
        Self::Failed(io::Error::other(error))
    }
}

/// Of a connect to somewhere on the way, not to where the program meant to go.
impl Retryable for Undialled {
    fn retryable(&self) -> bool {
        use io::ErrorKind as Kind;
        let Self::Failed(error) = self else { return false };
        matches!(
            error.kind(),
            Kind::ConnectionRefused
                | Kind::ConnectionReset
                | Kind::ConnectionAborted
                | Kind::BrokenPipe
                | Kind::UnexpectedEof
                | Kind::HostUnreachable
                | Kind::NetworkUnreachable
                | Kind::TimedOut
        )
    }

    fn retry_delay(&self) -> Option<Duration> {
        None
    }
}

async fn in_all<T>(dial: impl Future<Output = Result<T, Undialled>>) -> Result<T, Undialled> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it took too long to connect");
    timeout(IN_ALL, dial).await.map_err(late)?
}

/// A connection, and what the rules must go on to allow for it to be kept.
pub(crate) type Dialled = (Outside, Passed);

/// Connects in the place of one sandbox.
///
/// It goes by the policy of the moment at every step: resolving a name or reaching a proxy takes time,
/// and what a change forbids meanwhile is not connected to.
pub(crate) struct Dialler<'a> {
    pub(crate) service: &'a Service,
    pub(crate) turns: &'a Turns,
    pub(crate) policy: &'a watch::Receiver<Arc<Policy>>,
    /// Whether the requests of the flow are looked into.
    pub(crate) opened: bool,
}

impl Dialler<'_> {
    /// Connects to an address that the rules allow.
    ///
    /// A refusal by that address is its answer, and the program gets it at once.
    pub(crate) async fn address(&self, target: SocketAddr) -> Result<Dialled, Undialled> {
        in_all(self.place(target, None)).await
    }

    /// Resolves a name and connects to what is reachable of it: what the sandbox thinks the name's
    /// address is has no say. Unless the rules allow the name, they must allow the address.
    pub(crate) async fn name(&self, name: &Domain, port: u16) -> Result<Dialled, Undialled> {
        in_all(self.any_of(name, port)).await
    }

    async fn any_of(&self, name: &Domain, port: u16) -> Result<Dialled, Undialled> {
        let policy = self.now();
        // Our name servers must not hear of the names of a local network.
        if let Err(reason @ Reason::LocalName) = policy.resolvable(name) {
            return Err(Undialled::Refused(reason));
        }
        if let Some(proxy) = policy.egress().proxy.as_ref().filter(|_| policy.name(name)) {
            let target = TargetAddr::Domain(name.as_str().into(), port);
            let passed = self.passed(Ipv4Addr::UNSPECIFIED.into(), Some(name), Some(proxy));
            return self.unless_cut(passed, self.through(&policy, proxy, target)).await;
        }
        let mut last = Undialled::Failed(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{name} has no address"),
        ));
        for ip in self.resolve(name).await?.into_iter().take(ATTEMPTS) {
            let target = SocketAddr::new(ip.to_canonical(), port);
            match self.place(target, Some(name)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The addresses of a name, unless a change forbids asking for it before it was asked.
    async fn resolve(&self, name: &Domain) -> Result<Vec<IpAddr>, Undialled> {
        let (mut changed, policy) = (self.policy.clone(), self.now());
        tokio::select! {
            biased;
            _ = changed.wait_for(|policy| policy.resolvable(name).is_err()) => {
                Err(Undialled::Refused(Reason::Name(name.clone())))
            }
            found = self.service.resolver.addresses(&policy, self.turns, name) => Ok(found?),
        }
    }

    /// Connects to an address, if the policy lets this flow go there now and as long as it takes.
    async fn place(&self, target: SocketAddr, name: Option<&Domain>) -> Result<Dialled, Undialled> {
        let policy = self.now();
        if !name.is_some_and(|name| policy.name(name)) {
            let refused = match (policy.address(target.ip()), name) {
                (Verdict::Allowed, _) => None,
                (Verdict::Denied(reason), _) => Some(reason),
                (Verdict::ByName, Some(name)) => Some(Reason::Name(name.clone())),
                (Verdict::ByName, None) => Some(Reason::NotAllowed),
            };
            if let Some(reason) = refused {
                return Err(Undialled::Refused(reason));
            }
        }
        let passed = self.passed(target.ip(), name, policy.egress().proxy.as_ref());
        match &policy.egress().proxy {
            None => {
                let work = async { direct(&policy, target).await.map(Outside::Plain) };
                self.unless_cut(passed, work).await
            }
            Some(proxy) => {
                policy.reachable(target.ip()).map_err(Undialled::Refused)?;
                let work = self.through(&policy, proxy, TargetAddr::Ip(target));
                self.unless_cut(passed, work).await
            }
        }
    }

    /// Connects by a SOCKS5 server, which itself must be reachable; there is no other way then.
    ///
    /// As long as that server did not answer, nothing of the program was sent: it is asked again, by the
    /// retry policy.
    async fn through(
        &self,
        policy: &Policy,
        proxy: &UpstreamProxy,
        target: TargetAddr<'_>,
    ) -> Result<Outside, Undialled> {
        AGAIN.run(sleep, || self.through_once(policy, proxy, target.to_owned())).await
    }

    async fn through_once(
        &self,
        policy: &Policy,
        proxy: &UpstreamProxy,
        target: TargetAddr<'_>,
    ) -> Result<Outside, Undialled> {
        let port = proxy.address.port.get();
        let ip = match &proxy.address.host {
            ProxyHost::Address(ip) => *ip,
            ProxyHost::Name(name) => {
                // The owner's choice, which the lists of names have no say in.
                let found = self.service.resolver.addresses(policy, self.turns, name).await?;
                let missing = || io::Error::other(format!("{PROXY} {name} has no address"));
                found.into_iter().next().ok_or_else(missing)?
            }
        };
        // Only the connect counts: a server that takes it lives, whatever it says of the target, and what
        // a sandbox asks for must not shut it out.
        let address = SocketAddr::new(ip.to_canonical(), port);
        let socket = policy.proxy().run(PROXY, || direct(policy, address)).await;
        let socket = socket.map_err(|undialled| match undialled {
            Undialled::Refused(reason) => {
                Undialled::Refused(Reason::Proxy(address.ip(), Box::new(reason)))
            }
            failed => failed,
        })?;
        let handshake = async {
            let socket = match &proxy.tls {
                None => Outside::Plain(socket),
                Some(tls) => {
                    let machine = || Ok(self.service.roots()?.bare());
                    Outside::sealed(socket, proxy, tls, machine).await?
                }
            };
            match proxy.credentials() {
                None => Socks5Stream::connect_with_socket(socket, target).await,
                Some((user, password)) => {
                    Socks5Stream::connect_with_password_and_socket(socket, target, user, password)
                        .await
                }
            }
        };
        let connected = timeout(PATIENCE, handshake)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the egress proxy is silent"))?;
        // Its errors hold no credentials.
        let stream = connected.map_err(|error| {
            let kind = match &error {
                tokio_socks::Error::Io(error) => error.kind(),
                _ => io::ErrorKind::Other,
            };
            io::Error::new(kind, format!("{PROXY}: {error}"))
        })?;
        Ok(stream.into_inner())
    }

    /// `work`, until a change of policy forbids where it leads. The policy is looked at before every
    /// step of it, the first one included.
    async fn unless_cut(
        &self,
        passed: Passed,
        work: impl Future<Output = Result<Outside, Undialled>>,
    ) -> Result<Dialled, Undialled> {
        let mut policy = self.policy.clone();
        tokio::select! {
            biased;
            _ = policy.wait_for(|policy| !policy.keeps(&passed)) => {
                Err(Undialled::Refused(Reason::NotAllowed))
            }
            done = work => done.map(|outside| (outside, passed)),
        }
    }

    fn passed(
        &self,
        reached: IpAddr,
        name: Option<&Domain>,
        proxy: Option<&UpstreamProxy>,
    ) -> Passed {
        Passed { reached, name: name.cloned(), opened: self.opened, proxy: proxy.cloned() }
    }

    fn now(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }
}

async fn direct(policy: &Policy, target: SocketAddr) -> Result<TcpStream, Undialled> {
    policy.reachable(target.ip()).map_err(Undialled::Refused)?;
    if !policy.opened(target.ip()) && is_own(target.ip())? {
        return Err(Undialled::Refused(Reason::Own));
    }
    let stream = timeout(EACH, TcpStream::connect(target))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    Ok(stream)
}

/// Whether an address is this machine's, secondary ones and whole local ranges too.
///
/// # Errors
/// If the kernel knows no way there.
pub(crate) fn is_own(address: IpAddr) -> io::Result<bool> {
    soulbox_sys::outward::is_local(address)
}

#[cfg(test)]
#[path = "dial_proxy_tests.rs"]
mod proxy_tests;

#[cfg(test)]
mod tests {
    use rustix::net::sockopt;
    use soulbox_linger::ALIVE_AFTER;
    use soulbox_model::network::Egress;
    use tokio::{
        net::{TcpListener, UdpSocket},
        sync::{Notify, oneshot},
    };

    use super::*;
    use crate::{Config, dns::answered};

    fn loopback(egress: Egress) -> Arc<Policy> {
        Arc::new(Policy::new(egress, &["127.0.0.0/8".parse().unwrap()]))
    }

    #[tokio::test]
    async fn this_machine_is_not_reached_unless_the_operator_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        assert!(is_own(target.ip()).unwrap());
        let (service, turns) = (Service::new(Config::default()), Turns::default());
        let dial = async |policy| {
            let (_sender, policy) = watch::channel(policy);
            let dialler =
                Dialler { service: &service, turns: &turns, policy: &policy, opened: false };
            dialler.address(target).await
        };
        let closed = Arc::new(Policy::new(Egress::default(), &[]));
        assert!(matches!(dial(closed).await, Err(Undialled::Refused(_))));
        let (Outside::Plain(stream), _) = dial(loopback(Egress::default())).await.unwrap() else {
            panic!("there is no proxy");
        };
        assert!(sockopt::socket_keepalive(&stream).unwrap(), "a host that vanished is noticed");
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), ALIVE_AFTER);
    }

    /// A name server that gives every name this machine's address, once it is told to.
    async fn slow_names(asked: oneshot::Sender<()>, go_on: Arc<Notify>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut buffer, mut asked) = ([0; 512], Some(asked));
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(asked) = asked.take() {
                    asked.send(()).unwrap();
                    go_on.notified().await;
                }
                let reply = answered(&buffer[..length], [127, 0, 0, 1].into());
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        address
    }

    /// What comes of dialling a name if the rules are changed while it is resolved.
    async fn changed_meanwhile(before: Egress, after: Egress) -> (Result<(), Undialled>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heard, asked) = oneshot::channel();
        let go_on = Arc::new(Notify::new());
        let name_servers = vec![slow_names(heard, Arc::clone(&go_on)).await];
        let service = Service::new(Config { name_servers, ..Config::default() });
        let (sender, policy) = watch::channel(loopback(before));
        let dialled = tokio::spawn(async move {
            let turns = Turns::default();
            let dialler =
                Dialler { service: &service, turns: &turns, policy: &policy, opened: false };
            dialler.name(&"slow.example.com".parse().unwrap(), port).await.map(drop)
        });
        asked.await.unwrap();
        sender.send_replace(loopback(after));
        go_on.notify_one();
        let done = dialled.await.unwrap();
        let called = timeout(Duration::from_millis(50), listener.accept()).await.is_ok();
        (done, called)
    }

    #[tokio::test]
    async fn what_is_forbidden_while_a_name_is_resolved_is_not_connected_to() {
        let allowing = |names: &[&str]| Egress {
            allow: names.iter().map(|name| name.parse().unwrap()).collect(),
            ..Egress::of_internet(false)
        };
        let named = allowing(&["slow.example.com"]);
        let kept = changed_meanwhile(named.clone(), allowing(&["*.example.com"])).await;
        assert!(matches!(kept, (Ok(()), true)), "{kept:?}");
        for after in [allowing(&[]), allowing(&["other.example.com"])] {
            let (done, called) = changed_meanwhile(named.clone(), after).await;
            assert!(matches!(done, Err(Undialled::Refused(_))), "{done:?}");
            assert!(!called, "the connection was made all the same");
        }
    }
}
