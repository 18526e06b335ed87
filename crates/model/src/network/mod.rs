//! What a sandbox may reach and who may reach it, parsed and checked.
//!
//! Every type here holds only what the network path can carry out. They are stored as JSON with
//! the sandbox and go through the same checks when they are read again. Start with [`Egress`].

mod bytes;
mod cidr;
mod domain;
mod grant;
mod header;
mod mask;
mod proxy;
mod request;
mod udp;

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

pub use bytes::{ByteLimit, BytesUsed};
pub use cidr::Cidr;
pub use domain::{Domain, Pattern};
pub use grant::{Grant, Marker};
pub use header::{HeaderName, Piece, Placeholder, SecretName, Template, Transform};
pub use mask::HostMask;
pub use proxy::{Password, ProxyAddress, ProxyHost, ProxyTls, UpstreamProxy};
pub use request::{RequestRate, RequestRule, is_plain_path};
pub use udp::UdpRule;

use crate::{Error, Port, Result};

/// Entries of one list, at most.
pub const MAX_ENTRIES: usize = 1000;
/// Destinations whose bytes are limited, at most.
pub const MAX_BYTE_LIMITS: usize = 100;
/// Rules for datagrams, at most.
pub const MAX_UDP_RULES: usize = 100;
/// Domains with transforms, at most.
pub const MAX_TRANSFORMS: usize = 10;
/// Secrets of one sandbox that it has placeholders for, at most.
pub const MAX_GRANTS: usize = 32;
/// Name servers that a sandbox may name.
pub const MAX_DNS_SERVERS: usize = 10;

/// Both directions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    #[serde(default)]
    pub egress: Egress,
    #[serde(default)]
    pub ingress: Ingress,
}

impl Network {
    /// All of the public internet or nothing, where nothing more was said.
    pub fn of_internet(allowed: Option<bool>) -> Self {
        Self { egress: Egress::of_internet(allowed.unwrap_or(true)), ingress: Ingress::default() }
    }
}

/// What a sandbox may reach.
///
/// An allowed destination is reachable whatever is denied; what is neither allowed nor denied is
/// reachable; special ranges are the operator's matter and never reachable by this alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// `false` denies everything that is not allowed.
    pub internet: bool,
    #[serde(default)]
    pub allow: Vec<Destination>,
    #[serde(default)]
    pub deny: Vec<Cidr>,
    /// Headers that the proxy sets on requests to these domains. Does not allow them.
    #[serde(default, with = "pairs")]
    pub transforms: BTreeMap<Pattern, Transform>,
    /// Which requests hosts may get; a host that no rule names may get any.
    #[serde(default)]
    pub requests: Vec<RequestRule>,
    #[serde(default)]
    pub rates: Vec<RequestRate>,
    /// How many bytes destinations may get and give.
    #[serde(default)]
    pub bytes: Vec<ByteLimit>,
    /// Where datagrams may go; nowhere else.
    #[serde(default)]
    pub udp: Vec<UdpRule>,
    /// Secrets that the sandbox has placeholders for. Does not allow their hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// `None`: directly.
    #[serde(default)]
    pub proxy: Option<UpstreamProxy>,
    /// As asked for; an empty list turns name service off while a domain is allowed.
    #[serde(default)]
    pub dns_servers: Option<Vec<Ipv4Addr>>,
    /// Governs nothing; `None` where nothing was put in such words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

/// Lists in the words of who put them, for who asks what that was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    /// Domain → its rules, of each the headers that it sets.
    pub rules: BTreeMap<String, Vec<Option<BTreeMap<String, String>>>>,
}

/// Which requests hosts get, how many of them, how many bytes, and where datagrams go: rules of SoulBox's own, which are
/// replaced together and outlive changes of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demands {
    pub requests: Vec<RequestRule>,
    pub rates: Vec<RequestRate>,
    pub bytes: Vec<ByteLimit>,
    pub udp: Vec<UdpRule>,
}

impl Default for Egress {
    fn default() -> Self {
        Self::of_internet(true)
    }
}

impl Egress {
    /// All of the public internet, or nothing.
    pub fn of_internet(internet: bool) -> Self {
        Self {
            internet,
            allow: Vec::new(),
            deny: Vec::new(),
            transforms: BTreeMap::new(),
            requests: Vec::new(),
            rates: Vec::new(),
            bytes: Vec::new(),
            udp: Vec::new(),
            grants: Vec::new(),
            proxy: None,
            dns_servers: None,
            asked: None,
        }
    }

    /// What of the rules is about requests and amounts.
    pub fn demands(&self) -> Demands {
        let Self { requests, rates, bytes, udp, .. } = self.clone();
        Demands { requests, rates, bytes, udp }
    }

    /// These rules, with others about requests and amounts.
    pub fn with(self, Demands { requests, rates, bytes, udp }: Demands) -> Self {
        Self { requests, rates, bytes, udp, ..self }
    }

    /// Whether everything is denied that no entry allows.
    pub fn denies_all(&self) -> bool {
        !self.internet || self.deny.iter().any(Cidr::is_everything)
    }

    /// Whether any domain is allowed by name.
    pub fn allows_names(&self) -> bool {
        self.allow.iter().any(|entry| matches!(entry, Destination::Name(_)))
    }

    /// What holds between fields.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] naming the field.
    pub fn check(&self) -> Result<()> {
        let bounded = |field: &str, length: usize, most: usize| {
            if length <= most {
                Ok(())
            } else {
                Err(Error::invalid(field, format!("has {length} entries; at most {most} fit")))
            }
        };
        bounded("allowOut", self.allow.len(), MAX_ENTRIES)?;
        bounded("denyOut", self.deny.len(), MAX_ENTRIES)?;
        bounded("rules", self.transforms.len(), MAX_TRANSFORMS)?;
        bounded("allow", self.requests.len(), MAX_ENTRIES)?;
        bounded("perMinute", self.rates.len(), MAX_ENTRIES)?;
        bounded("bytes", self.bytes.len(), MAX_BYTE_LIMITS)?;
        bounded("udp", self.udp.len(), MAX_UDP_RULES)?;
        bounded("envVars", self.grants.len(), MAX_GRANTS)?;
        bounded("dnsServers", self.dns_servers.as_ref().map_or(0, Vec::len), MAX_DNS_SERVERS)?;
        if self.allows_names() && !self.denies_all() {
            return Err(Error::invalid(
                "allowOut",
                "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in \
                 deny out to block all other traffic.",
            ));
        }
        Ok(())
    }

    /// Whether a request that `other` let through is let through here, as it was left.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.requests == other.requests && self.transforms == other.transforms
    }

    /// Whether it matters which name an allowed address is called by.
    pub fn needs_names(&self) -> bool {
        let named = |limit: &ByteLimit| {
            matches!(limit.destination, Destination::Name(Pattern::Exact(_) | Pattern::Below(_)))
        };
        self.opens_any() || self.bytes.iter().any(named)
    }

    /// Whether requests to some host are looked into.
    pub fn opens_any(&self) -> bool {
        !(self.transforms.is_empty()
            && self.requests.is_empty()
            && self.rates.is_empty()
            && self.grants.is_empty())
    }

    /// Whether requests to a host are looked into.
    pub fn opens(&self, host: &Domain) -> bool {
        self.transform(host).is_some()
            || self.requests.iter().any(|rule| rule.is_for(host))
            || self.rate(host).is_some()
            || self.grants.iter().any(|grant| grant.is_for(host))
    }

    /// Whether a host may get a request; `path` is without the query.
    pub fn permits(&self, method: &str, host: &Domain, path: &str) -> bool {
        let mut rules = self.requests.iter().filter(|rule| rule.is_for(host)).peekable();
        rules.peek().is_none() || self.permitting(method, host, path).is_some()
    }

    /// The rule by which a host may get a request.
    pub fn permitting(&self, method: &str, host: &Domain, path: &str) -> Option<&RequestRule> {
        let allows = |rule: &&RequestRule| rule.is_for(host) && rule.allows(method, path);
        self.requests.iter().find(allows).filter(|_| is_plain_path(path))
    }

    /// How many requests a host may get: as its own name says, else the longest suffix.
    pub fn rate(&self, host: &Domain) -> Option<&RequestRate> {
        self.rates
            .iter()
            .filter(|rate| rate.host.matches(host))
            .max_by_key(|rate| rate.host.specificity())
    }

    /// The transform for a host: of its own name, else of the longest suffix.
    pub fn transform(&self, host: &Domain) -> Option<&Transform> {
        self.transforms
            .iter()
            .filter(|(pattern, _)| pattern.matches(host))
            .max_by_key(|(pattern, _)| pattern.specificity())
            .map(|(_, transform)| transform)
    }
}

/// One entry of the allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    Net(Cidr),
    Name(Pattern),
}

impl std::str::FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        // What looks like an address must be one: `1.2.3.4.5` is no domain, nor is `10.0.0.0/99`.
        let addressy = text.contains(['/', ':']);
        match (text.parse(), addressy) {
            (Ok(net), _) => Ok(Self::Net(net)),
            (Err(why), true) => Err(why),
            (Err(_), false) => text.parse().map(Self::Name),
        }
    }
}

impl Destination {
    /// Whether it is one by name, and this name.
    pub fn names(&self, name: &Domain) -> bool {
        matches!(self, Self::Name(pattern) if pattern.matches(name))
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

by_text!(Destination);

/// Who may reach the ports of a sandbox, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingress {
    /// Without a token.
    pub public: bool,
    /// What requests carry as `Host`.
    #[serde(default)]
    pub mask_request_host: Option<HostMask>,
    /// Ports whose program speaks TLS.
    #[serde(default)]
    pub https_ports: Vec<Port>,
    /// The only ports that anybody may reach; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<Vec<Port>>,
}

impl Default for Ingress {
    fn default() -> Self {
        Self { public: true, mask_request_host: None, https_ports: Vec::new(), exposed: None }
    }
}

/// Maps whose keys are no plain strings, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Pattern, Transform};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Pattern, Transform>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Pattern, Transform>, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Lets serde go through `FromStr` and `Display`, so that nothing unchecked is ever read.
macro_rules! by_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> std::result::Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
use by_text;

#[cfg(test)]
mod tests;
