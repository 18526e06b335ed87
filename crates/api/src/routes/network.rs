//! What a sandbox may reach and who may reach it: from E2B's `network` object and back.

use std::collections::BTreeMap;

use axum::extract::State;
use http::StatusCode;
use serde_json::Value;
use soulbox_model::{
    Error, Port,
    network::{
        Egress, HeaderName, Ingress, Network, Pattern, ProxyTls, Template, Transform, UpstreamProxy,
    },
};
use soulbox_wire::rest;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    auth::KeyHolder,
    body::Body,
    path::SandboxPath,
    problem::{Problem, Result},
};

/// Longest domain with a transform, in bytes.
const MAX_RULE_DOMAIN: usize = 128;
const MAX_HTTPS_PORTS: usize = 64;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(update_network))
}

/// Replace what governs a sandbox's way out. Absent fields are empty: `{}` allows the internet.
#[utoipa::path(
    put,
    path = "/sandboxes/{sandboxID}/network",
    tag = "sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = rest::NetworkUpdate,
    responses((status = 204, description = "In effect; what is no longer allowed is cut"), Problem)
)]
async fn update_network(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
    Body(update): Body<rest::NetworkUpdate>,
) -> Result<StatusCode> {
    let flag = update.allow_internet_access;
    let egress = parse_update(update)?;
    app.control.set_egress(caller.team, &id, egress, flag).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse_update(update: rest::NetworkUpdate) -> Result<Egress> {
    refuse_unknown("", &update.unknown)?;
    egress(
        "",
        update.allow_internet_access.unwrap_or(true),
        Lists {
            allow_out: update.allow_out,
            deny_out: update.deny_out,
            rules: update.rules,
            egress_proxy: update.egress_proxy,
            dns_servers: update.dns_servers,
        },
    )
}

/// Of a create request.
pub fn parse(
    network: rest::Network,
    allow_internet: Option<bool>,
    secure: bool,
) -> Result<Network> {
    refuse_unknown("network.", &network.unknown)?;
    let ingress = ingress(&network, secure)?;
    let egress = egress(
        "network.",
        allow_internet.unwrap_or(true),
        Lists {
            allow_out: network.allow_out,
            deny_out: network.deny_out,
            rules: network.rules,
            egress_proxy: network.egress_proxy,
            dns_servers: network.dns_servers,
        },
    )?;
    Ok(Network { egress, ingress })
}

fn ingress(network: &rest::Network, secure: bool) -> Result<Ingress> {
    if network.allow_public_traffic == Some(false) {
        // The agent's port stays reachable, and what runs there could open every other one.
        if !secure {
            return Err(Problem::invalid("network.allowPublicTraffic", "false requires secure"));
        }
    }
    let mask_request_host = match &network.mask_request_host {
        None => None,
        Some(text) => {
            let bad = |why: String| Problem::invalid("network.maskRequestHost", why);
            Some(text.parse().map_err(bad)?)
        }
    };
    Ok(Ingress {
        public: network.allow_public_traffic.unwrap_or(true),
        mask_request_host,
        https_ports: https_ports(network.https_ports.as_deref().unwrap_or_default())?,
    })
}

fn https_ports(numbers: &[u32]) -> Result<Vec<Port>> {
    let bad = |why: String| Problem::invalid("network.httpsPorts", why);
    if numbers.len() > MAX_HTTPS_PORTS {
        return Err(bad(format!("at most {MAX_HTTPS_PORTS} ports")));
    }
    let port = |number: &u32| {
        let port = u16::try_from(*number).ok().and_then(Port::new);
        match port {
            Some(port) if port != Port::AGENT => Ok(port),
            Some(port) => Err(bad(format!("{port} is the agent's port"))),
            None => Err(bad(format!("{number} is no port: 1 to 65535"))),
        }
    };
    numbers.iter().map(port).collect()
}

/// What create and update have in common.
struct Lists {
    allow_out: Option<Vec<String>>,
    deny_out: Option<Vec<String>>,
    rules: Option<BTreeMap<String, Vec<rest::NetworkRule>>>,
    egress_proxy: Option<rest::EgressProxy>,
    dns_servers: Option<Vec<String>>,
}

fn egress(at: &str, internet: bool, lists: Lists) -> Result<Egress> {
    let mut transforms = BTreeMap::new();
    for (domain, rules) in lists.rules.unwrap_or_default() {
        let field = format!("{at}rules");
        let bad = |why: String| Problem::invalid(field.clone(), why);
        if domain.len() > MAX_RULE_DOMAIN {
            return Err(bad(format!("a domain has at most {MAX_RULE_DOMAIN} bytes")));
        }
        let pattern: Pattern = domain.parse().map_err(bad)?;
        if pattern == Pattern::Any {
            return Err(bad("`*` alone is no domain; name one".to_owned()));
        }
        let transform = transform(&field, rules)?;
        if let Some(transform) = transform
            && transforms.insert(pattern, transform).is_some()
        {
            return Err(bad(format!("`{domain}` stands there twice")));
        }
    }
    let egress = Egress {
        allow: list(&format!("{at}allowOut"), lists.allow_out)?,
        deny: list(&format!("{at}denyOut"), lists.deny_out)?,
        transforms,
        proxy: lists.egress_proxy.map(|proxy| upstream(at, proxy)).transpose()?,
        dns_servers: match lists.dns_servers {
            None => None,
            servers => Some(list(&format!("{at}dnsServers"), servers)?),
        },
        ..Egress::of_internet(internet)
    };
    egress.check().map_err(|error| match error {
        // The words that newer clients look for come first in the message.
        Error::InvalidRequest { field, message } => {
            Problem::invalid(format!("{at}{field}"), message)
        }
        other => other.into(),
    })?;
    Ok(egress)
}

fn list<T: std::str::FromStr>(field: &str, texts: Option<Vec<String>>) -> Result<Vec<T>>
where
    T::Err: std::fmt::Display,
{
    texts
        .unwrap_or_default()
        .iter()
        .map(|text| {
            text.trim().parse().map_err(|e: T::Err| {
                let shown: String = text.chars().take(64).collect();
                Problem::invalid(field, format!("`{shown}`: {e}"))
            })
        })
        .collect()
}

fn transform(field: &str, mut rules: Vec<rest::NetworkRule>) -> Result<Option<Transform>> {
    let bad = |why: String| Problem::invalid(field, why);
    if rules.len() > 1 {
        return Err(bad("a domain has at most one rule".to_owned()));
    }
    let Some(rule) = rules.pop() else { return Ok(None) };
    refuse_unknown(field, &rule.unknown)?;
    let Some(transform) = rule.transform else { return Ok(None) };
    refuse_unknown(field, &transform.unknown)?;
    let mut headers = BTreeMap::new();
    for (name, value) in transform.headers.unwrap_or_default() {
        let parsed: HeaderName = name.parse().map_err(bad)?;
        let value: Template = value.parse().map_err(bad)?;
        if headers.insert(parsed, value).is_some() {
            return Err(bad(format!("`{name}` stands there twice")));
        }
    }
    if headers.is_empty() {
        return Ok(None);
    }
    Transform::try_from(headers).map(Some).map_err(bad)
}

fn upstream(at: &str, proxy: rest::EgressProxy) -> Result<UpstreamProxy> {
    let field = |name: &str| format!("{at}egressProxy.{name}");
    let address =
        proxy.address.parse().map_err(|e: String| Problem::invalid(field("address"), e))?;
    let tls = match proxy.tls.filter(|tls| tls.enabled) {
        None => None,
        Some(tls) => Some(ProxyTls {
            server_name: tls
                .server_name
                .filter(|name| !name.is_empty())
                .map(|name| name.parse())
                .transpose()
                .map_err(|e: String| Problem::invalid(field("tls.serverName"), e))?,
            ca_cert: tls.ca_cert.filter(|ca| !ca.is_empty()),
        }),
    };
    UpstreamProxy::new(address, proxy.username, proxy.password, tls)
        .map_err(|(name, why)| Problem::invalid(field(name), why))
}

/// A field that this server does not know and that says something: ignoring it could leave open
/// what its sender thinks closed.
fn refuse_unknown(at: &str, unknown: &serde_json::Map<String, Value>) -> Result<()> {
    let says_something = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(inner) => !inner.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
    };
    match unknown.iter().find(|(_, value)| says_something(value)) {
        None => Ok(()),
        Some((name, _)) => {
            let name: String = name.chars().take(64).collect();
            Err(Problem::not_implemented(format!("the network option {at}{name}")))
        }
    }
}

/// As clients read it, without passwords.
pub fn render(network: &Network) -> rest::Network {
    let Network { egress, ingress } = network;
    let texts = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let allow: Vec<_> = egress.allow.iter().map(ToString::to_string).collect();
    let deny: Vec<_> = egress.deny.iter().map(ToString::to_string).collect();
    let rules: BTreeMap<_, _> =
        egress.transforms.iter().map(|(domain, t)| (domain.to_string(), vec![rule(t)])).collect();
    rest::Network {
        allow_out: texts(&allow),
        deny_out: texts(&deny),
        rules: (!rules.is_empty()).then_some(rules),
        egress_proxy: egress.proxy.as_ref().map(|proxy| rest::EgressProxy {
            address: proxy.address.to_string(),
            username: proxy.username().map(ToOwned::to_owned),
            password: None,
            tls: proxy.tls.as_ref().map(|tls| rest::EgressProxyTls {
                enabled: true,
                server_name: tls.server_name.as_ref().map(ToString::to_string),
                ca_cert: None,
            }),
        }),
        dns_servers: egress
            .dns_servers
            .as_ref()
            .map(|servers| servers.iter().map(ToString::to_string).collect()),
        allow_public_traffic: Some(ingress.public),
        mask_request_host: ingress.mask_request_host.as_ref().map(ToString::to_string),
        https_ports: (!ingress.https_ports.is_empty())
            .then(|| ingress.https_ports.iter().map(|port| u32::from(port.get())).collect()),
        unknown: serde_json::Map::new(),
    }
}

fn rule(transform: &Transform) -> rest::NetworkRule {
    let headers =
        transform.headers().iter().map(|(name, value)| (name.to_string(), value.to_string()));
    rest::NetworkRule {
        transform: Some(rest::NetworkTransform {
            headers: Some(headers.collect()),
            unknown: serde_json::Map::new(),
        }),
        unknown: serde_json::Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn created(value: Value) -> Result<Network> {
        parse(serde_json::from_value(value).unwrap(), Some(true), true)
    }

    #[test]
    fn what_clients_ask_for_comes_back_without_passwords() {
        let asked = json!({
            "allowOut": ["8.8.8.0/24", "*.example.com"],
            "denyOut": ["0.0.0.0/0"],
            "rules": {"API.example.com": [{"transform": {"headers": {"X-Key": "${e2b.secrets.k}"}}}]},
            "egressProxy": {
                "address": "p.example.com:1080", "username": "u", "password": "hunter2",
                "tls": {"enabled": true, "serverName": "Proxy.example.com", "caCert": "secret"},
            },
            "dnsServers": ["1.1.1.1"],
            "allowPublicTraffic": true,
            "httpsPorts": [443, 8443],
        });
        let told = serde_json::to_value(render(&created(asked).unwrap())).unwrap();
        assert_eq!(
            told,
            json!({
                "allowOut": ["8.8.8.0/24", "*.example.com"],
                "denyOut": ["0.0.0.0/0"],
                "rules": {"api.example.com": [{"transform": {"headers": {"X-Key": "${e2b.secrets.k}"}}}]},
                "egressProxy": {
                    "address": "p.example.com:1080", "username": "u",
                    "tls": {"enabled": true, "serverName": "proxy.example.com"},
                },
                "dnsServers": ["1.1.1.1"],
                "allowPublicTraffic": true,
                "httpsPorts": [443, 8443],
            })
        );
    }

    #[test]
    fn each_bad_field_is_a_400_that_names_it() {
        for (value, named) in [
            (json!({"allowOut": ["10.0.0.0/99"]}), "network.allowOut"),
            (json!({"allowOut": ["example.com"]}), "network.allowOut"),
            (json!({"denyOut": ["example.com"]}), "network.denyOut"),
            (json!({"rules": {"*": []}}), "network.rules"),
            (
                json!({"rules": {"a.b": [{"transform": {"headers": {"host": "x"}}}]}}),
                "network.rules",
            ),
            (json!({"rules": {"a.b": [{}, {}]}}), "network.rules"),
            (json!({"egressProxy": {"address": "nowhere"}}), "network.egressProxy.address"),
            (
                json!({"egressProxy": {"address": "a.b:1", "password": "x"}}),
                "network.egressProxy.password",
            ),
            (json!({"dnsServers": ["::1"]}), "network.dnsServers"),
            (json!({"httpsPorts": [0]}), "network.httpsPorts"),
            (json!({"httpsPorts": [65536]}), "network.httpsPorts"),
            (json!({"httpsPorts": [49983]}), "network.httpsPorts"),
            (json!({"httpsPorts": vec![8443; 65]}), "network.httpsPorts"),
        ] {
            let problem = created(value.clone()).unwrap_err();
            let Error::InvalidRequest { field, .. } = problem.error() else { panic!("{value}") };
            assert_eq!(field, named, "{value}");
        }
    }

    #[test]
    fn an_option_of_the_future_is_not_ignored() {
        assert_eq!(created(json!({"wireguard": {"key": "x"}})).unwrap_err().status(), 501);
        assert!(created(json!({"wireguard": null})).is_ok());
    }
}
