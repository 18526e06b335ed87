//! Where the server listens, and what clients call that.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::TcpListener;

use super::tls::Tls;
use crate::failure::{Failure, Result};

/// A configured domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Domain {
    /// Lower case, without a port.
    pub name: String,
    /// Where clients reach it, when that is not the listener's own port.
    port: Option<u16>,
}

/// What clients use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub url: String,
    pub domain: String,
}

/// A domain from the command line: `name` or `name:port`.
///
/// # Errors
/// If it is not one.
pub(super) fn domain(text: &str) -> Result<Domain> {
    let wrong = || {
        Failure::usage(format!("--domain: `{text}` is not a domain such as sandboxes.example.com"))
    };
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => {
            let port: soulbox_model::Port = port.parse().map_err(|_| wrong())?;
            (name, Some(port.get()))
        }
        None => (text, None),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Below the domain stand `<port>-<sandbox>.`, 28 characters at most.
    if name.len() > 253 - 28 || !name.split('.').all(label) || name.parse::<IpAddr>().is_ok() {
        return Err(wrong());
    }
    Ok(Domain { name, port })
}

impl Domain {
    /// With the port where clients must name it.
    pub(super) fn told(&self, tls: bool, listener: u16) -> String {
        let port = self.port.unwrap_or(listener);
        let usual = if tls { 443 } else { 80 };
        if port == usual { self.name.clone() } else { format!("{}:{port}", self.name) }
    }
}

pub(super) fn reached_at(bound: SocketAddr, tls: Option<&Tls>, domain: Option<&Domain>) -> Reached {
    let port = bound.port();
    let told = domain.map(|domain| domain.told(tls.is_some(), port));
    let near = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let near = SocketAddr::new(near, port);
    let url = match (tls, &told) {
        (None, _) => format!("http://{near}"),
        // Made for `localhost`, whatever else it is for.
        (Some(tls), _) if tls.trust.is_some() && near.ip().is_loopback() => {
            format!("https://localhost:{port}")
        }
        (Some(_), Some(told)) => format!("https://api.{told}"),
        (Some(_), None) => format!("https://{near}"),
    };
    Reached { url, domain: told.unwrap_or_else(|| format!("localhost:{port}")) }
}

/// # Errors
/// One sentence on what stands in the way.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let (message, hint) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                format!("{address} is in use by another program"),
                "end that program, or choose another address with --listen",
            ),
            io::ErrorKind::AddrNotAvailable => (
                format!("{address} is not an address of this machine"),
                "choose one that is, or 0.0.0.0 for all, with --listen",
            ),
            io::ErrorKind::PermissionDenied => (
                format!("{address} may not be listened on"),
                "ports below 1024 need root: choose another one with --listen",
            ),
            _ => (format!("{address}: {error}"), "choose another address with --listen"),
        };
        Failure::Environment { message, hint: hint.into() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name() {
        let with = |name: &str, port| Domain { name: name.into(), port };
        assert_eq!(domain("Example.COM.").ok(), Some(with("example.com", None)));
        assert_eq!(domain("box.test:8443").ok(), Some(with("box.test", Some(8443))));
        for bad in ["", "a..b", "-a.b", "a_b.c", "1.2.3.4", "a.b:0", "a.b:x", "https://a.b"] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn clients_are_told_what_works_for_them() {
        let at = |address: &str| address.parse::<SocketAddr>().expect(address);
        let told = reached_at(at("0.0.0.0:8990"), None, None);
        assert_eq!(told.url, "http://127.0.0.1:8990");
        assert_eq!(told.domain, "localhost:8990");
        let told = reached_at(at("[::]:80"), None, domain("x.test").ok().as_ref());
        assert_eq!(told.url, "http://[::1]:80");
        assert_eq!(told.domain, "x.test");
        assert_eq!(domain("x.test").map(|d| d.told(true, 8990)).ok(), Some("x.test:8990".into()));
        assert_eq!(domain("x.test:443").map(|d| d.told(true, 8990)).ok(), Some("x.test".into()));
    }
}
