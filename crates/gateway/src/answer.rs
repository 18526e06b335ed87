//! What the gateway itself answers when it cannot deliver a request: JSON for programs, a page for
//! browsers, with E2B's texts.
//!
//! SDKs tell "gone" from "not listening yet" by status 502 and these texts; keep them exact.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use soulbox_control::Unexposed;
use soulbox_model::{Error, Port};

use crate::{
    ingress::Refusal,
    page::Page,
    route::{Destination, Misrouted},
};

/// Why a request was not delivered.
#[derive(Debug)]
pub(crate) enum Problem {
    Misrouted(Misrouted),
    /// The client did not send the body that it announced.
    BrokenBody,
    /// Unknown, killed or expired. The name is empty where only an access token was given.
    NotFound {
        name: String,
        port: Option<Port>,
    },
    /// A link to a file at the shared address, of which no sandbox is known.
    Link {
        signed: bool,
    },
    PortClosed(Destination),
    /// It runs, but no connection could be made, or none that speaks HTTP.
    /// After so many attempts to reconnect.
    Unreachable(Destination, Fault, u32),
    TooMany(Destination, usize),
    /// Faster than one sandbox, or one client, may ask.
    TooFast(Option<Destination>),
    /// Its ports are private.
    Private(Destination, Refusal),
    /// Whatever listens there, it is not for the outside.
    Unexposed(Destination, Unexposed),
    /// A route of the agent for the server alone.
    Reserved(String),
}

/// What went wrong between the gateway and a running sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Dial,
    Closed,
    NotHttp,
    NotTls,
}

impl Fault {
    fn words(self) -> &'static str {
        match self {
            Self::Dial => "The sandbox is running but could not be reached",
            Self::Closed => "The sandbox closed the connection before it answered",
            Self::NotHttp => "The sandbox did not answer in HTTP",
            Self::NotTls => "The sandbox did not answer in TLS",
        }
    }
}

impl Problem {
    pub fn not_found(destination: Destination) -> Self {
        Self::NotFound { name: destination.name, port: Some(destination.port) }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Misrouted(Misrouted::Connect) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misrouted(_) | Self::BrokenBody => StatusCode::BAD_REQUEST,
            Self::NotFound { .. } | Self::PortClosed(_) | Self::Unreachable(..) => {
                StatusCode::BAD_GATEWAY
            }
            Self::Link { .. } => StatusCode::UNAUTHORIZED,
            Self::TooMany(..) | Self::TooFast(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Private(..) | Self::Unexposed(..) => StatusCode::FORBIDDEN,
            Self::Reserved(_) => StatusCode::NOT_FOUND,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Misrouted(why) => return why.to_string(),
            Self::BrokenBody => "The request body is malformed or incomplete",
            Self::NotFound { .. } => "The sandbox was not found",
            Self::Link { signed: true } => {
                "invalid signature: no running sandbox has made this link for this path, user and operation"
            }
            Self::Link { signed: false } => {
                "missing signature query parameter: name the sandbox by the host <port>-<id>.<domain>, or by \
                 headers 'e2b-sandbox-id' and 'e2b-sandbox-port'"
            }
            Self::PortClosed(_) => "The sandbox is running but port is not open",
            Self::Unreachable(_, fault, 0) => fault.words(),
            Self::Unreachable(_, fault, again) => {
                return format!("{}; reconnect attempts: {again}", fault.words());
            }
            Self::TooMany(..) => "Too many connections to the sandbox",
            Self::TooFast(Some(_)) => "Too many requests to the sandbox",
            Self::TooFast(None) => "Too many requests from your address",
            Self::Private(_, Refusal::Missing) => {
                "Sandbox is secured with traffic access token. Token header \
                 'e2b-traffic-access-token' is missing"
            }
            Self::Private(_, Refusal::Invalid) => {
                "Sandbox is secured with traffic access token. Provided token in header \
                 'e2b-traffic-access-token' is invalid"
            }
            Self::Private(_, Refusal::OtherOrigin) => {
                "Sandbox is secured with traffic access token. A page of another origin must send \
                 it in header 'e2b-traffic-access-token'"
            }
            Self::Unexposed(_, why) => return format!("The sandbox is running but port {why}"),
            Self::Reserved(_) => {
                "This endpoint is reserved for the E2B control plane and is not reachable through \
                 the sandbox URL"
            }
        }
        .to_owned()
    }

    fn body(&self) -> Value {
        let ours = json!({ "code": self.code(), "retryable": self.retryable() });
        let mut body =
            json!({ "message": self.message(), "code": self.status().as_u16(), "soulbox": ours });
        match self {
            Self::Misrouted(_) | Self::BrokenBody | Self::Link { .. } | Self::TooFast(None) => {}
            Self::Private(to, _) | Self::TooFast(Some(to)) => body["sandboxId"] = json!(to.name),
            Self::NotFound { name, .. } => body["sandboxId"] = json!(name),
            Self::PortClosed(to) => {
                body["sandboxId"] = json!(to.name);
                body["port"] = json!(to.port);
            }
            Self::Unreachable(to, _, attempts) => {
                body["sandboxId"] = json!(to.name);
                body["port"] = json!(to.port);
                body["soulbox"]["attempts"] = json!(attempts);
            }
            Self::Unexposed(to, why) => {
                body["sandboxId"] = json!(to.name);
                body["port"] = json!(to.port);
                body["exposedPorts"] = json!(why.exposed);
            }
            Self::TooMany(to, limit) => {
                body["sandboxId"] = json!(to.name);
                body["connectionLimit"] = json!(limit);
            }
            Self::Reserved(path) => body["path"] = json!(path),
        }
        body
    }

    /// The platform's error that this is; the answer keeps E2B's words and status.
    fn error(&self) -> Error {
        let limit = |resource: &str, limit: usize| Error::ResourceLimit {
            resource: resource.into(),
            current: limit as u64,
            limit: limit as u64,
        };
        match self {
            Self::Misrouted(why) => Error::invalid("request", why.to_string()),
            Self::BrokenBody => Error::invalid("body", self.message()),
            Self::NotFound { name, .. } => Error::not_found("sandbox", name),
            Self::Link { .. } => Error::Authentication {
                method: "signed link",
                message: self.message(),
                retry_after: None,
            },
            Self::PortClosed(to) => Error::not_found("port", to.port),
            Self::Unreachable(_, fault, attempts) => Error::ConnectionLost {
                reason: fault.words().to_owned(),
                attempts: *attempts,
                source: None,
            },
            Self::TooMany(_, most) => limit("requests at a time", *most),
            Self::TooFast(_) => limit("requests in a second", 0),
            Self::Private(to, _) | Self::Unexposed(to, _) => {
                Error::Permission { permission: format!("port {}", to.port), user_id: None }
            }
            Self::Reserved(path) => Error::not_found("route", path),
        }
    }

    /// As it stands in the log and the body.
    pub fn code(&self) -> &'static str {
        self.error().code()
    }

    /// Whether the same request may be sent again at once; where it may have arrived, it may not.
    fn retryable(&self) -> bool {
        matches!(self, Self::TooMany(..) | Self::TooFast(_) | Self::Unreachable(_, Fault::Dial, _))
    }

    pub fn into_response(self, page: bool) -> Response<Body> {
        let (kind, body) = match self.page().filter(|_| page) {
            Some(html) => ("text/html; charset=utf-8", html),
            None => ("application/json; charset=utf-8", format!("{}\n", self.body())),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
        set(header::CONTENT_TYPE, kind);
        set(header::CACHE_CONTROL, "no-store");
        set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        // Scripts of any origin use the SDK; without this they see a network failure instead of the
        // status. The body says nothing that the request did not.
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        set(header::VARY, "accept, user-agent, sec-fetch-mode, x-requested-with");
        // Newer SDKs repeat a call on any 502 without this, and the first one may have arrived.
        if matches!(
            self,
            Self::NotFound { .. }
                | Self::Unreachable(_, Fault::Closed | Fault::NotHttp | Fault::NotTls, _)
        ) {
            set(HeaderName::from_static("should-retry"), "false");
        }
        if page {
            set(
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
            );
        }
        if matches!(self, Self::TooFast(_)) {
            set(header::RETRY_AFTER, "1");
        }
        if matches!(self, Self::Misrouted(Misrouted::Connect)) {
            set(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        response
    }

    fn page(&self) -> Option<String> {
        fn in_sandbox(to: &Destination) -> (&str, Option<Port>) {
            (&to.name, Some(to.port))
        }
        let ((name, port), title, explanation, steps) = match self {
            Self::NotFound { name, port } => (
                (name.as_str(), *port),
                "Sandbox not found",
                "No sandbox with this ID is running here. It may have reached its end of life, \
                 been killed, or never existed.",
                vec![
                    "Check the ID in the address.".to_owned(),
                    "List what runs: soulbox sandbox list".to_owned(),
                    "Create a new sandbox, with a longer timeout if this one expired.".to_owned(),
                ],
            ),
            Self::PortClosed(to) => (
                in_sandbox(to),
                "Nothing listens on this port",
                "The sandbox is running, but no program inside accepts connections on this port.",
                vec![
                    format!("Start your server in the sandbox on port {}.", to.port),
                    "A server that just started may need a moment: try again.".to_owned(),
                    "Look at the port in the address: it is the number before the first hyphen."
                        .to_owned(),
                ],
            ),
            Self::Unreachable(to, fault, _) => (
                in_sandbox(to),
                "The sandbox did not answer",
                match fault {
                    Fault::Dial => "The sandbox is running, but no connection to it could be made.",
                    Fault::Closed => {
                        "The program in the sandbox closed the connection before it answered."
                    }
                    Fault::NotHttp => {
                        "The program in the sandbox accepted the connection but did not answer in \
                         HTTP."
                    }
                    Fault::NotTls => {
                        "The program in the sandbox accepted the connection but did not answer in \
                         TLS, as programs on the ports of httpsPorts do."
                    }
                },
                vec![
                    format!("Look at the output of the program on port {}.", to.port),
                    if *fault == Fault::NotTls {
                        "Check that it serves HTTPS.".to_owned()
                    } else {
                        "Check that it speaks plain HTTP; TLS ends at the gateway.".to_owned()
                    },
                ],
            ),
            Self::TooMany(to, limit) => (
                in_sandbox(to),
                "Too many connections",
                "This sandbox has as many requests in flight as the server allows.",
                vec![
                    format!("Close some of the {limit} connections."),
                    "Try again in a moment.".to_owned(),
                ],
            ),
            Self::Private(to, _) => (
                in_sandbox(to),
                "This port is private",
                "Whoever made this sandbox lets nobody in without a token.",
                vec![
                    "Ask its owner for an address with a pass in it: soulbox sandbox url"
                        .to_owned(),
                    "A pass is good for one port and ends after a while: yours may have."
                        .to_owned(),
                ],
            ),
            Self::Unexposed(to, why) => (
                in_sandbox(to),
                "This port is not exposed",
                "Whoever made this sandbox exposes none but certain ports, whatever listens on others.",
                vec![
                    format!("Port {why}."),
                    "A project exposes a port that `ports` in [network] of its soulbox.toml lists, and needs \
                     a new sandbox for that."
                        .to_owned(),
                ],
            ),
            Self::TooFast(_)
            | Self::Misrouted(_)
            | Self::BrokenBody
            | Self::Link { .. }
            | Self::Reserved(_) => {
                return None;
            }
        };
        let mut facts = vec![("Sandbox", name.to_owned())];
        facts.extend(port.map(|port| ("Port", port.to_string())));
        let status = self.status().as_u16();
        Some(Page { status, title, explanation, facts: &facts, steps: &steps }.render())
    }
}

/// Whether the client is a person at a browser who navigates, rather than a program or a script.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    let lower = |name: HeaderName| {
        headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_ascii_lowercase)
    };
    let fetch_mode = lower(HeaderName::from_static("sec-fetch-mode"));
    match fetch_mode.as_deref() {
        Some("navigate") => return true,
        Some("cors" | "no-cors" | "same-origin" | "websocket") => return false,
        _ => {}
    }
    if headers.contains_key("x-requested-with") {
        return false;
    }
    let accept = lower(header::ACCEPT).unwrap_or_default();
    if accept.contains("application/json") && !accept.contains("text/html") {
        return false;
    }
    let agent = lower(header::USER_AGENT).unwrap_or_default();
    ["mozilla", "chrome", "safari", "firefox", "edge", "opera", "msie"]
        .iter()
        .any(|browser| agent.contains(browser))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn every_problem_has_a_documented_code() {
        let to = || Destination { name: "x".into(), id: None, port: Port::AGENT };
        let dial = Problem::Unreachable(to(), Fault::Dial, 0);
        let unexposed = Unexposed { port: Port::AGENT, exposed: Vec::new() };
        for (problem, code, again) in [
            (Problem::Misrouted(Misrouted::NoHost), "SB-INVALID", false),
            (Problem::Misrouted(Misrouted::Connect), "SB-INVALID", false),
            (Problem::BrokenBody, "SB-INVALID", false),
            (Problem::not_found(to()), "SB-NOT-FOUND", false),
            (Problem::PortClosed(to()), "SB-NOT-FOUND", false),
            (dial, "SB-CONN-LOST", true),
            (Problem::Unreachable(to(), Fault::Closed, 0), "SB-CONN-LOST", false),
            (Problem::Unreachable(to(), Fault::NotHttp, 0), "SB-CONN-LOST", false),
            (Problem::TooMany(to(), 3), "SB-LIMIT", true),
            (Problem::TooFast(None), "SB-LIMIT", true),
            (Problem::Private(to(), Refusal::Missing), "SB-PERMISSION", false),
            (Problem::Unexposed(to(), unexposed), "SB-PERMISSION", false),
            (Problem::Reserved("/init".into()), "SB-NOT-FOUND", false),
        ] {
            let body = problem.body();
            let told = (&body["soulbox"]["code"], &body["soulbox"]["retryable"]);
            assert_eq!(told, (&code.into(), &again.into()), "{problem:?}");
            assert!(Error::CODES.contains(&code));
        }
    }

    #[test]
    fn a_page_is_for_people_only() {
        let firefox = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko Firefox/130.0");
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[], false),
            (&[("user-agent", "python-httpx/0.28")], false),
            (&[("accept", "text/html")], false),
            (&[firefox], true),
            (&[("user-agent", "OPERA/9")], true),
            (&[firefox, ("accept", "application/json")], false),
            (&[firefox, ("accept", "text/html,application/json")], true),
            (&[firefox, ("sec-fetch-mode", "cors")], false),
            (&[firefox, ("sec-fetch-mode", "websocket")], false),
            (&[firefox, ("x-requested-with", "XMLHttpRequest")], false),
            (&[("sec-fetch-mode", "navigate")], true),
            (&[("sec-fetch-mode", "navigate"), ("accept", "application/json")], true),
        ];
        for (given, page) in cases {
            let map = given
                .iter()
                .map(|(n, v)| {
                    (
                        HeaderName::from_bytes(n.as_bytes()).unwrap(),
                        HeaderValue::from_str(v).unwrap(),
                    )
                })
                .collect();
            assert_eq!(wants_page(&map), *page, "{given:?}");
        }
        assert!(!wants_page(&headers(&[("user-agent", "curl/8")])));
    }
}
