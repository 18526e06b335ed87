//! Whose request is it: the API's, or a sandbox's, and which port of it.
//!
//! A request names a sandbox by its host (`<port>-<id>.<domain>`), by the headers `E2b-Sandbox-Id` and
//! `E2b-Sandbox-Port`, or both; then they must agree. Whatever could be read in two ways is refused.
//! Beside these, a sandbox may have names of its own, which come last.

use http::{
    HeaderMap, HeaderName, Method, Version,
    header::{self, HeaderValue},
    request::Parts,
};
use hyper::ext::Protocol;
use soulbox_model::{Port, SandboxId};

use crate::link::Link;

pub(crate) const SANDBOX_ID: HeaderName = HeaderName::from_static("e2b-sandbox-id");
pub(crate) const SANDBOX_PORT: HeaderName = HeaderName::from_static("e2b-sandbox-port");
const BEARER: &[u8] = b"bearer ";
const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-access-token");

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Api,
    Sandbox(Destination),
    /// A sandbox that only its access token names.
    AccessToken(String),
    /// A sandbox that only the signature of a link to a file tells.
    Link(Link),
}

/// A port of a sandbox that may or may not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// As the client wrote it.
    pub name: String,
    /// `None` if no sandbox can have that name.
    pub id: Option<SandboxId>,
    pub port: Port,
}

/// Why a request has no one meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misrouted {
    #[error("Missing header 'Host'")]
    NoHost,
    #[error("Invalid host")]
    Host,
    #[error("The request line and header 'Host' name different hosts")]
    TwoHosts,
    #[error("Header '{0}' is given more than once")]
    Duplicate(HeaderName),
    #[error("Missing header '{0}'")]
    Missing(HeaderName),
    #[error("Invalid sandbox ID")]
    Id,
    #[error("Invalid sandbox port")]
    Port,
    #[error(
        "The host names another sandbox or port than headers 'e2b-sandbox-id' and 'e2b-sandbox-port'"
    )]
    Conflict,
    #[error("This server has sandboxes at '<port>-<id>.{0}' only")]
    Domain(String),
    #[error("Method CONNECT is not served")]
    Connect,
}

/// Decides where a request goes; `domain` as [`domain_name`] returns it, and `named` says where a name of
/// a sandbox's own leads.
pub(crate) fn route(
    parts: &Parts,
    domain: Option<&str>,
    named: impl FnOnce(&str) -> Option<(SandboxId, Port)>,
) -> Result<Route, Misrouted> {
    if parts.method == Method::CONNECT && parts.extensions.get::<Protocol>().is_none() {
        return Err(Misrouted::Connect);
    }
    refuse_duplicates(&parts.headers)?;
    let host = host_of(parts)?;
    let by_host = host.as_ref().map(|host| by_host(host, domain)).transpose()?.flatten();
    let by_headers = by_headers(&parts.headers)?;
    match (by_host, by_headers) {
        (Some(host), Some(headers)) if host != headers => Err(Misrouted::Conflict),
        (Some(destination), _) => Ok(Route::Sandbox(destination)),
        (None, Some(destination)) if is_api_call(&destination, parts.uri.path()) => Ok(Route::Api),
        (None, Some(destination)) => Ok(Route::Sandbox(destination)),
        (None, None) => Ok(match by_access_token(parts) {
            Some(token) => Route::AccessToken(token),
            // Last of all, and never with what opens something: whoever took a name must not collect it.
            None if has_api_key(&parts.headers) || parts.headers.contains_key(ACCESS_TOKEN) => {
                Route::Api
            }
            None => match host.and_then(|host| named(&host.name)) {
                Some(place) => Route::Sandbox(Destination::from(place)),
                None => Link::of(parts).map_or(Route::Api, Route::Link),
            },
        }),
    }
}

/// `Sandbox.Example.com:8443` → `sandbox.example.com`; `None` if it is no host name.
pub(crate) fn domain_name(text: &str) -> Option<String> {
    Host::parse(text.trim().trim_start_matches("*.").as_bytes()).ok().map(|host| host.name)
}

fn refuse_duplicates(headers: &HeaderMap) -> Result<(), Misrouted> {
    for name in headers.keys() {
        let decides = *name == header::HOST || name.as_str().starts_with("e2b-");
        if decides && headers.get_all(name).iter().nth(1).is_some() {
            return Err(Misrouted::Duplicate(name.clone()));
        }
    }
    Ok(())
}

/// The authority of the request line (absolute form, or HTTP/2's `:authority`) and the Host header
/// must name the same host when both are there.
fn host_of(parts: &Parts) -> Result<Option<Host>, Misrouted> {
    let line = parts.uri.authority().map(|a| Host::parse(a.as_str().as_bytes())).transpose()?;
    let field = parts.headers.get(header::HOST).map(|v| Host::parse(v.as_bytes())).transpose()?;
    match (line, field) {
        (Some(line), Some(field)) if line != field => Err(Misrouted::TwoHosts),
        (None, None) if parts.version >= Version::HTTP_11 => Err(Misrouted::NoHost),
        (line, field) => Ok(line.or(field)),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Lower case, without a final dot.
    name: String,
    port: Option<u16>,
}

impl Host {
    /// `name`, `name:port`, `[v6]` or `[v6]:port`; no user info, nothing but ASCII.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Misrouted> {
        let text = std::str::from_utf8(text).map_err(|_| Misrouted::Host)?;
        let (name, port) = if text.starts_with('[') {
            let end = text.find(']').ok_or(Misrouted::Host)?;
            (
                &text[..=end],
                text[end + 1..].strip_prefix(':').or(if end + 1 == text.len() {
                    Some("")
                } else {
                    None
                }),
            )
        } else {
            match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, Some("")),
            }
        };
        let port = match port.ok_or(Misrouted::Host)? {
            "" => None,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| Misrouted::Host)?)
            }
            _ => return Err(Misrouted::Host),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let valid = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host_name(&name),
        };
        if valid { Ok(Self { name, port }) } else { Err(Misrouted::Host) }
    }

    pub(crate) fn into_parts(self) -> (String, Option<u16>) {
        (self.name, self.port)
    }
}

fn is_host_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// `<port>-<id>.<domain>`, or `<port>-<id>-<anything>.<domain>` of older clients.
///
/// A host such as `192-168-1-5.example.com` is nobody's sandbox and stays the API's, except
/// where the server's own domain says that it can only be a mistyped sandbox.
fn by_host(host: &Host, domain: Option<&str>) -> Result<Option<Destination>, Misrouted> {
    let Some((label, rest)) = host.name.split_once('.') else { return Ok(None) };
    let mut pieces = label.split('-');
    let (Some(port), Some(name)) = (pieces.next(), pieces.next()) else { return Ok(None) };
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let ours = rest == "localhost" || domain == Some(rest);
    let well_formed = name.parse::<SandboxId>().is_ok();
    match domain {
        _ if ours => {}
        Some(domain) if well_formed => return Err(Misrouted::Domain(domain.to_owned())),
        None if well_formed => {}
        _ => return Ok(None),
    }
    Destination::parse(name, port).map(Some)
}

/// Whether a request carries a key of this server, in whichever way the API takes one: then it is for the
/// API. Whoever got hold of a name of the API's would otherwise be sent the keys of others.
fn has_api_key(headers: &HeaderMap) -> bool {
    let key = |value: &[u8]| value.starts_with(b"e2b_");
    let named = headers.get_all("x-api-key").iter().any(|value| key(value.as_bytes()));
    named
        || headers.get_all(header::AUTHORIZATION).iter().any(|value| {
            value.as_bytes().split_at_checked(BEARER.len()).is_some_and(|(scheme, rest)| {
                scheme.eq_ignore_ascii_case(BEARER) && key(rest.trim_ascii_start())
            })
        })
}

fn by_headers(headers: &HeaderMap) -> Result<Option<Destination>, Misrouted> {
    match (headers.get(SANDBOX_ID), headers.get(SANDBOX_PORT)) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(Misrouted::Missing(SANDBOX_PORT)),
        (None, Some(_)) => Err(Misrouted::Missing(SANDBOX_ID)),
        (Some(id), Some(port)) => {
            let id = id.to_str().map_err(|_| Misrouted::Id)?;
            let port = port.to_str().map_err(|_| Misrouted::Port)?;
            // Older clients append `-<client id>` to the sandbox id.
            let (id, client) = id.split_once('-').unwrap_or((id, "0"));
            if !is_id_text(client) {
                return Err(Misrouted::Id);
            }
            Destination::parse(id, port).map(Some)
        }
    }
}

impl From<(SandboxId, Port)> for Destination {
    fn from((id, port): (SandboxId, Port)) -> Self {
        Self { name: id.to_string(), id: Some(id), port }
    }
}

impl Destination {
    fn parse(name: &str, port: &str) -> Result<Self, Misrouted> {
        if !is_id_text(name) {
            return Err(Misrouted::Id);
        }
        let port = port.parse().map_err(|_| Misrouted::Port)?;
        Ok(Self { name: name.to_owned(), id: name.parse().ok(), port })
    }
}

fn is_id_text(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Some SDK versions (Python 2.10 to 2.20) send the routing headers to the control plane too; the
/// agent serves nothing below these paths.
fn is_api_call(destination: &Destination, path: &str) -> bool {
    let path = path.strip_prefix("/v2").unwrap_or(path);
    destination.port == Port::AGENT
        && path
            .strip_prefix("/sandboxes")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Some SDK versions send to a shared address nothing but the access token: JS 2.10 with files and health,
/// Python 2.10 to 2.20 with every call to the agent of a sandbox that they connected to.
fn by_access_token(parts: &Parts) -> Option<String> {
    const SERVICES: [&str; 2] = ["/process.Process/", "/filesystem.Filesystem/"];
    let path = parts.uri.path();
    let of_agent = matches!(path, "/files" | "/files/compose" | "/health")
        || SERVICES.iter().any(|service| path.starts_with(service));
    of_agent
        .then(|| parts.headers.get(ACCESS_TOKEN))
        .flatten()
        .and_then(|token: &HeaderValue| token.to_str().ok())
        .map(str::to_owned)
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
