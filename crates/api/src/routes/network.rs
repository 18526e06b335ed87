//! What a sandbox may reach and who may reach it: from E2B's `network` object.

use std::collections::BTreeMap;

use axum::extract::State;
use http::StatusCode;
use serde_json::{Map, Value};
use soulbox_model::{
    Error, Port,
    network::{
        Asked, Egress, HeaderName, Ingress, MAX_TRANSFORMS, Network, Pattern, ProxyTls, Template,
        Transform, UpstreamProxy,
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

const EGRESS_FIELDS: [&str; 5] = ["allowOut", "denyOut", "rules", "egressProxy", "dnsServers"];
const INGRESS_FIELDS: [&str; 3] = ["allowPublicTraffic", "maskRequestHost", "httpsPorts"];
const INTERNET: &str = "allow_internet_access";

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
    let known = [&EGRESS_FIELDS[..], &[INTERNET]].concat();
    if let Some(name) = meant(&update.unknown, &INGRESS_FIELDS) {
        return Err(Problem::invalid(name, "can only be said when the sandbox is created"));
    }
    refuse_unknown("", &update.unknown, &known)?;
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
    if let Some(name) = meant(&network.unknown, &[INTERNET]) {
        let why = format!("unknown field; did you mean `{INTERNET}` beside `network`?");
        return Err(Problem::invalid(format!("network.{name}"), why));
    }
    let known = [&EGRESS_FIELDS[..], &INGRESS_FIELDS].concat();
    refuse_unknown("network.", &network.unknown, &known)?;
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
        https_ports: ports(
            "network.httpsPorts",
            network.https_ports.as_deref().unwrap_or_default(),
            MAX_HTTPS_PORTS,
        )?,
        exposed: None,
    })
}

/// Ports of programs in a sandbox, at most so many.
pub fn ports(field: &str, numbers: &[u32], most: usize) -> Result<Vec<Port>> {
    let bad = |why: String| Problem::invalid(field, why);
    if numbers.len() > most {
        return Err(bad(format!("at most {most} ports")));
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
    let asked = asked(&lists);
    let mut transforms = BTreeMap::new();
    let rules = lists.rules.unwrap_or_default();
    if rules.len() > MAX_TRANSFORMS {
        let why = format!("has {} domains; at most {MAX_TRANSFORMS} fit", rules.len());
        return Err(Problem::invalid(format!("{at}rules"), why));
    }
    for (domain, rules) in rules {
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
        asked: Some(asked),
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

fn asked(lists: &Lists) -> Asked {
    let headers = |rule: &rest::NetworkRule| rule.transform.as_ref()?.headers.clone();
    let rules = lists.rules.iter().flatten();
    Asked {
        allow: lists.allow_out.clone().unwrap_or_default(),
        deny: lists.deny_out.clone().unwrap_or_default(),
        rules: rules
            .map(|(domain, rules)| (domain.clone(), rules.iter().map(headers).collect()))
            .collect(),
    }
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
    refuse_unknown(&format!("{field}."), &rule.unknown, &["transform"])?;
    let Some(transform) = rule.transform else { return Ok(None) };
    refuse_unknown(&format!("{field}.transform."), &transform.unknown, &["headers"])?;
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
    refuse_unknown(&field(""), &proxy.unknown, &["address", "username", "password", "tls"])?;
    if let Some(tls) = &proxy.tls {
        refuse_unknown(&field("tls."), &tls.unknown, &["enabled", "serverName", "caCert"])?;
    }
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

/// A field that this server does not know: ignoring it could leave open what its sender thinks closed.
fn refuse_unknown(at: &str, unknown: &Map<String, Value>, known: &[&str]) -> Result<()> {
    let Some((name, _)) = unknown.iter().find(|(_, value)| !value.is_null()) else {
        return Ok(());
    };
    let name: String = name.chars().take(64).collect();
    let why = match known.iter().find(|known| plain(known) == plain(&name)) {
        Some(known) => format!("unknown field; did you mean `{known}`?"),
        None => format!("unknown field; known are {}", known.join(", ")),
    };
    Err(Problem::invalid(format!("{at}{name}"), why))
}

/// A field that is one of `known` in whatever spelling, and says something.
fn meant(unknown: &Map<String, Value>, known: &[&str]) -> Option<String> {
    let is_known = |name: &str| known.iter().any(|known| plain(known) == plain(name));
    let mut names = unknown.iter().filter(|(name, value)| !value.is_null() && is_known(name));
    names.next().map(|(name, _)| name.clone())
}

/// Without case and underscores, as `snake_case` and `camelCase` differ in.
fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::routes::render;

    fn created(value: Value) -> Result<Network> {
        parse(serde_json::from_value(value).unwrap(), Some(true), true)
    }

    #[test]
    fn what_clients_ask_for_comes_back_without_passwords() {
        let asked = json!({
            "allowOut": ["8.8.8.8/24", "*.example.com"],
            "denyOut": ["0.0.0.0/0"],
            "rules": {
                "API.example.com": [{"transform": {"headers": {"X-Key": "${e2b.secrets.k}"}}}],
                "b.example.com": [], "c.example.com": [{}],
            },
            "egressProxy": {
                "address": "p.example.com:1080", "username": "u", "password": "hunter2",
                "tls": {"enabled": true, "serverName": "Proxy.example.com", "caCert": "secret"},
            },
            "dnsServers": ["1.1.1.1"],
            "allowPublicTraffic": true,
            "httpsPorts": [443, 8443],
        });
        let told = serde_json::to_value(render::network(&created(asked).unwrap())).unwrap();
        assert_eq!(
            told,
            json!({
                "allowOut": ["8.8.8.8/24", "*.example.com"],
                "denyOut": ["0.0.0.0/0"],
                "rules": {
                    "API.example.com": [{"transform": {"headers": {"X-Key": "${e2b.secrets.k}"}}}],
                    "b.example.com": [], "c.example.com": [{}],
                },
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
    fn an_unknown_field_is_a_400_that_names_it_and_the_one_that_was_meant() {
        for (value, named, meant) in [
            (json!({"wireguard": {"key": "x"}}), "network.wireguard", "allowOut"),
            (json!({"deny_out": []}), "network.deny_out", "`denyOut`"),
            (
                json!({"allow_public_traffic": false}),
                "network.allow_public_traffic",
                "`allowPublicTraffic`",
            ),
            (
                json!({"allowInternetAccess": false}),
                "network.allowInternetAccess",
                "`allow_internet_access` beside",
            ),
            (json!({"rules": {"a.b": [{"body": "x"}]}}), "network.rules.body", "transform"),
            (
                json!({"rules": {"a.b": [{"transform": {"foo": 1}}]}}),
                "network.rules.transform.foo",
                "headers",
            ),
            (
                json!({"egressProxy": {"address": "a.b:1", "foo": 1}}),
                "network.egressProxy.foo",
                "username",
            ),
            (
                json!({"egressProxy": {"address": "a.b:1", "tls": {"enabled": true, "ca_cert": "x"}}}),
                "network.egressProxy.tls.ca_cert",
                "`caCert`",
            ),
        ] {
            let problem = created(value.clone()).unwrap_err();
            let Error::InvalidRequest { field, message } = problem.error() else {
                panic!("{value}")
            };
            assert_eq!(field, named, "{value}");
            assert!(message.contains(meant), "{value}: {message}");
        }
        assert!(created(json!({"wireguard": null})).is_ok());
    }

    #[test]
    fn an_update_refuses_what_it_cannot_close() {
        for (value, named) in [
            (json!({"allowInternetAccess": false}), "allowInternetAccess"),
            (json!({"allowPublicTraffic": false}), "allowPublicTraffic"),
        ] {
            let problem = parse_update(serde_json::from_value(value).unwrap()).unwrap_err();
            let Error::InvalidRequest { field, .. } = problem.error() else { panic!("{named}") };
            assert_eq!(field, named);
        }
    }

    #[test]
    fn domains_without_a_rule_count_too() {
        let rules = |n: usize| (0..n).map(|i| (format!("d{i}.example.com"), json!([])));
        let asked = |n| json!({"rules": rules(n).collect::<Map<_, _>>()});
        assert!(created(asked(10)).is_ok());
        assert_eq!(created(asked(11)).unwrap_err().status(), 400);
    }
}
