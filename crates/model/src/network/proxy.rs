//! The SOCKS5 server through which a sandbox may reach the world.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Domain;
use crate::Port;

/// Bytes of a user name or password, as SOCKS5 carries them.
const MAX_CREDENTIAL: usize = 255;
const MAX_CA: usize = 8192;

/// `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyAddress {
    pub host: ProxyHost,
    pub port: Port,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyHost {
    Address(IpAddr),
    Name(Domain),
}

impl FromStr for ProxyAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "must be host:port".to_owned();
        if text.len() > MAX_CREDENTIAL {
            return Err(format!("must not exceed {MAX_CREDENTIAL} bytes"));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (bare, host.parse::<IpAddr>()) {
            (Some(v6), _) => ProxyHost::Address(IpAddr::V6(v6.parse().map_err(|_| bad())?)),
            (None, Ok(IpAddr::V4(v4))) => ProxyHost::Address(IpAddr::V4(v4)),
            (None, Ok(IpAddr::V6(_))) => return Err("write IPv6 as [address]:port".to_owned()),
            (None, Err(_)) => ProxyHost::Name(host.parse()?),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.get();
        match &self.host {
            ProxyHost::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]:{port}"),
            ProxyHost::Address(v4) => write!(f, "{v4}:{port}"),
            ProxyHost::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

super::by_text!(ProxyAddress);

/// Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password(String);

impl Password {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A SOCKS5 server, with credentials of at most 255 bytes each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamProxy {
    pub address: ProxyAddress,
    credentials: Option<(String, Password)>,
    pub tls: Option<ProxyTls>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyTls {
    pub server_name: Option<Domain>,
    /// PEM, at most 8192 bytes.
    pub ca_cert: Option<String>,
}

impl UpstreamProxy {
    /// # Errors
    /// Which part is wrong, and why.
    pub fn new(
        address: ProxyAddress,
        username: Option<String>,
        password: Option<String>,
        tls: Option<ProxyTls>,
    ) -> Result<Self, (&'static str, String)> {
        let fits = |text: &String| (1..=MAX_CREDENTIAL).contains(&text.len());
        let username = username.filter(|text| !text.is_empty());
        let password = password.filter(|text| !text.is_empty());
        if username.as_ref().is_some_and(|text| !fits(text)) {
            return Err(("username", format!("must not exceed {MAX_CREDENTIAL} bytes")));
        }
        if password.as_ref().is_some_and(|text| !fits(text)) {
            return Err(("password", format!("must not exceed {MAX_CREDENTIAL} bytes")));
        }
        if password.is_some() && username.is_none() {
            return Err(("password", "needs a username".to_owned()));
        }
        let too_long = |ca: &String| ca.len() > MAX_CA;
        if tls.as_ref().and_then(|tls| tls.ca_cert.as_ref()).is_some_and(too_long) {
            return Err(("tls.caCert", format!("must not exceed {MAX_CA} bytes")));
        }
        let credentials = username.map(|name| (name, Password(password.unwrap_or_default())));
        Ok(Self { address, credentials, tls })
    }

    pub fn username(&self) -> Option<&str> {
        self.credentials.as_ref().map(|(name, _)| name.as_str())
    }

    /// User name and password, for the server alone.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(name, password)| (name.as_str(), password.expose()))
    }
}
