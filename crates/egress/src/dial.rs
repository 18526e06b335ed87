//! Connecting from the host in a sandbox's place.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use soulbox_model::network::Domain;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    dns::Resolver,
    policy::{Policy, Reason},
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
pub(crate) async fn address(policy: &Policy, target: SocketAddr) -> Result<TcpStream, Undialled> {
    policy.reachable(target.ip()).map_err(Undialled::Refused)?;
    if is_own(target) && !policy.opened(target.ip()) {
        return Err(Undialled::Refused(Reason::Own));
    }
    let stream = timeout(PATIENCE, TcpStream::connect(target))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Resolves a name that the rules allow, and connects to what is reachable of it: what the sandbox
/// thinks the name's address is has no say.
pub(crate) async fn name(
    resolver: &Resolver,
    policy: &Policy,
    name: &Domain,
    port: u16,
) -> Result<TcpStream, Undialled> {
    let addresses = resolver.addresses(name).await?;
    let mut last = Undialled::Failed(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{name} has no address"),
    ));
    for ip in addresses.into_iter().take(ATTEMPTS) {
        match address(policy, SocketAddr::new(ip.to_canonical(), port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether the target is this machine: the way to one's own address begins at that address. Sends
/// nothing, and is right also when addresses come and go.
fn is_own(target: SocketAddr) -> bool {
    let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let local = UdpSocket::bind((any, 0))
        .and_then(|socket| socket.connect(target).and_then(|()| socket.local_addr()));
    // Without a way there the connect fails by itself.
    local.is_ok_and(|local| local.ip() == target.ip())
}

#[cfg(test)]
mod tests {
    use soulbox_model::network::Egress;

    use super::*;

    #[tokio::test]
    async fn this_machine_is_not_reached_unless_the_operator_says_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        assert!(is_own(target));
        let closed = Policy::new(Egress::default(), &[]);
        assert!(matches!(address(&closed, target).await, Err(Undialled::Refused(_))));
        let opened = Policy::new(Egress::default(), &["127.0.0.0/8".parse().unwrap()]);
        assert!(address(&opened, target).await.is_ok());
    }
}
