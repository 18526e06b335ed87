//! Connecting from the host in a sandbox's place.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use soulbox_model::network::{Domain, ProxyHost, UpstreamProxy};
use tokio::{net::TcpStream, time::timeout};
use tokio_socks::{TargetAddr, tcp::Socks5Stream};

use crate::{
    dns::{Resolver, Turns},
    policy::{Policy, Reason, Verdict},
};

/// How long one address may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const ATTEMPTS: usize = 4;

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

/// Connects to an address that the rules allow.
pub(crate) async fn address(
    resolver: &Resolver,
    turns: &Turns,
    policy: &Policy,
    target: SocketAddr,
) -> Result<TcpStream, Undialled> {
    match &policy.egress().proxy {
        None => direct(policy, target).await,
        Some(proxy) => {
            policy.reachable(target.ip()).map_err(Undialled::Refused)?;
            through(resolver, turns, policy, proxy, TargetAddr::Ip(target)).await
        }
    }
}

/// Resolves a name and connects to what is reachable of it: what the sandbox thinks the name's
/// address is has no say. Unless the rules allow the name, they must allow the address.
pub(crate) async fn name(
    resolver: &Resolver,
    turns: &Turns,
    policy: &Policy,
    name: &Domain,
    port: u16,
) -> Result<TcpStream, Undialled> {
    // Our name servers must not hear of the names of a local network.
    if let Err(reason @ Reason::LocalName) = policy.resolvable(name) {
        return Err(Undialled::Refused(reason));
    }
    let named = policy.name(name);
    if let Some(proxy) = policy.egress().proxy.as_ref().filter(|_| named) {
        let target = TargetAddr::Domain(name.as_str().into(), port);
        return through(resolver, turns, policy, proxy, target).await;
    }
    let mut last = Undialled::Failed(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{name} has no address"),
    ));
    for ip in resolver.addresses(policy, turns, name).await?.into_iter().take(ATTEMPTS) {
        let target = SocketAddr::new(ip.to_canonical(), port);
        let connected = match policy.address(target.ip()) {
            Verdict::Denied(reason) if !named => Err(Undialled::Refused(reason)),
            Verdict::ByName if !named => Err(Undialled::Refused(Reason::Name(name.clone()))),
            _ => address(resolver, turns, policy, target).await,
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn direct(policy: &Policy, target: SocketAddr) -> Result<TcpStream, Undialled> {
    policy.reachable(target.ip()).map_err(Undialled::Refused)?;
    if !policy.opened(target.ip()) && is_own(target.ip())? {
        return Err(Undialled::Refused(Reason::Own));
    }
    let stream = timeout(PATIENCE, TcpStream::connect(target))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects by a SOCKS5 server, which itself must be reachable; there is no other way then.
async fn through(
    resolver: &Resolver,
    turns: &Turns,
    policy: &Policy,
    proxy: &UpstreamProxy,
    target: TargetAddr<'_>,
) -> Result<TcpStream, Undialled> {
    let port = proxy.address.port.get();
    let ip = match &proxy.address.host {
        ProxyHost::Address(ip) => *ip,
        ProxyHost::Name(name) => {
            let found = resolver.addresses(policy, turns, name).await?.into_iter().next();
            let missing = || io::Error::other(format!("the egress proxy {name} has no address"));
            found.ok_or_else(missing)?
        }
    };
    let socket = direct(policy, SocketAddr::new(ip.to_canonical(), port)).await?;
    let handshake = async {
        match proxy.credentials() {
            None => Socks5Stream::connect_with_socket(socket, target).await,
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(socket, target, user, password).await
            }
        }
    };
    let connected = timeout(PATIENCE, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the egress proxy is silent"))?;
    // Its errors hold no credentials.
    let stream =
        connected.map_err(|error| io::Error::other(format!("the egress proxy: {error}")))?;
    Ok(stream.into_inner())
}

/// Whether an address is this machine's, secondary ones and whole local ranges too.
///
/// # Errors
/// If the kernel knows no way there.
pub(crate) fn is_own(address: IpAddr) -> io::Result<bool> {
    soulbox_sys::outward::is_local(address)
}

#[cfg(test)]
mod tests {
    use soulbox_model::network::Egress;

    use super::*;

    #[tokio::test]
    async fn this_machine_is_not_reached_unless_the_operator_says_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        assert!(is_own(target.ip()).unwrap());
        let resolver = Resolver::new(Vec::new());
        let closed = Policy::new(Egress::default(), &[]);
        assert!(matches!(
            address(&resolver, &Turns::default(), &closed, target).await,
            Err(Undialled::Refused(_))
        ));
        let opened = Policy::new(Egress::default(), &["127.0.0.0/8".parse().unwrap()]);
        assert!(address(&resolver, &Turns::default(), &opened, target).await.is_ok());
    }
}
