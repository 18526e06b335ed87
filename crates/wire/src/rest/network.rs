//! What a sandbox may reach and who may reach it, as create, get and update carry it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// `network` of a create request, and of the sandbox that it made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Addresses, CIDR blocks, domains and `*.domain` that may be reached; stronger than `denyOut`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_out: Option<Vec<String>>,
    /// Addresses and CIDR blocks that may not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_out: Option<Vec<String>>,
    /// Header transforms by domain or `*.domain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<BTreeMap<String, Vec<NetworkRule>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<EgressProxy>,
    /// Name servers that may be asked when `allowOut` holds a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_servers: Option<Vec<String>>,
    /// Whether ports are reachable without a token; `true` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_public_traffic: Option<bool>,
    /// What requests to ports carry as `Host`; `${PORT}` stands for the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_request_host: Option<String>,
    /// Ports whose program speaks TLS itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_ports: Option<Vec<u32>>,
    /// Fields of clients newer than this server.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: serde_json::Map<String, Value>,
}

/// Body of `PUT /sandboxes/{sandboxID}/network`: replaces what governs egress; absent is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_out: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_out: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<BTreeMap<String, Vec<NetworkRule>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<EgressProxy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_servers: Option<Vec<String>>,
    /// `false` is the same as denying everything.
    #[serde(default, rename = "allow_internet_access", skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    /// Fields of clients newer than this server.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: serde_json::Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<NetworkTransform>,
    /// Fields of clients newer than this server.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: serde_json::Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkTransform {
    /// Set on every request to the domain, in place of a header of that name. Values may hold
    /// `${e2b.secrets.NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    /// Fields of clients newer than this server.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: serde_json::Map<String, Value>,
}

/// A SOCKS5 server through which a sandbox reaches the world.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressProxy {
    /// `host:port`.
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Taken, never given.
    #[serde(default, skip_serializing)]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<EgressProxyTls>,
    /// Fields that this server does not know.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: serde_json::Map<String, Value>,
}

impl std::fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, username, tls, .. } = self;
        f.debug_struct("EgressProxy")
            .field("address", address)
            .field("username", username)
            .field("tls", tls)
            .finish_non_exhaustive()
    }
}

/// TLS towards the SOCKS5 server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressProxyTls {
    pub enabled: bool,
    /// Name in its certificate, where that is not the host of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM; taken, never given.
    #[serde(default, skip_serializing)]
    pub ca_cert: Option<String>,
    /// Fields that this server does not know.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: serde_json::Map<String, Value>,
}
