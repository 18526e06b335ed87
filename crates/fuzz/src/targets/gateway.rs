//! Whose request is it, and which headers go through.

use http::{
    HeaderMap, HeaderValue, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
};
use soulbox_gateway::fuzzing::{self, Routed};

use crate::input::{self, Input};

fn version(choice: u8) -> Version {
    match choice % 3 {
        0 => Version::HTTP_11,
        1 => Version::HTTP_2,
        _ => Version::HTTP_10,
    }
}

/// A request goes to one place or is refused, and every word in it about that place agrees.
pub fn route(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let domain = match choice >> 4 & 3 {
        0 => None,
        1 => Some("example.com"),
        2 => Some("localhost"),
        _ => Some("sandboxes.example.com"),
    };
    let Some(parts) = input::request(&mut input, version(choice)) else { return };
    let routed = fuzzing::route(&parts, domain);
    assert_eq!(routed, fuzzing::route(&parts, domain), "the same request, another place");
    if let Ok(Routed::Sandbox { name, id, port }) = &routed {
        assert!(*port != 0 && (1..=63).contains(&name.len()));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        assert!(id.as_ref().is_none_or(|id| id == name), "{id:?} is not {name}");
        agree(&parts, name, *port);
    }
    if routed.is_ok() {
        twice(&parts, domain);
    }
}

/// Where the headers or the host name a sandbox, it is this one.
fn agree(parts: &Parts, name: &str, port: u16) {
    let text = |header: &str| parts.headers.get(header).and_then(|value| value.to_str().ok());
    let by_headers = text("e2b-sandbox-id").zip(text("e2b-sandbox-port"));
    if let Some((id, given)) = by_headers {
        assert_eq!(id.split('-').next(), Some(name), "the header names another sandbox");
        assert_eq!(given, port.to_string(), "the header names another port");
    }
    if by_headers.is_none() {
        let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
        let host = parts.uri.authority().map(|a| a.as_str()).or(host).unwrap_or_default();
        let wanted = format!("{port}-{name}");
        let label = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let rest = label.strip_prefix(&wanted);
        assert!(
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
            "{host} does not name {wanted}"
        );
    }
}

/// What decides about the way and is there twice makes a request that two readers read differently.
fn twice(parts: &Parts, domain: Option<&str>) {
    for name in ["host", "e2b-sandbox-id", "e2b-sandbox-port"] {
        if parts.headers.contains_key(name) {
            let mut doubled = parts.clone();
            doubled.headers.append(name, HeaderValue::from_static("8080"));
            assert!(fuzzing::route(&doubled, domain).is_err(), "two of {name}");
        }
    }
}

/// A host that parses, written out again, parses to the same.
pub fn host(data: &[u8]) {
    if let Some((name, port)) = fuzzing::host(data) {
        assert!(name.len() <= 253 && !name.bytes().any(|b| b.is_ascii_uppercase()));
        assert!(!name.contains(['/', '@', '?', '#', ' ', '\\', '%', '\0']), "{name}");
        let again = match port {
            Some(port) => format!("{name}:{port}"),
            None => name.clone(),
        };
        assert_eq!(fuzzing::host(again.as_bytes()), Some((name, port)));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(domain) = fuzzing::domain_name(text)
    {
        assert_eq!(fuzzing::domain_name(&domain).as_ref(), Some(&domain));
    }
}

/// Nothing that belongs to one hop goes on to the next.
pub fn headers(data: &[u8]) {
    let mut input = Input::new(data);
    let version = version(input.byte());
    let given = input::headers(&mut input);
    let named = connection_tokens(&given);

    let mut request = given.clone();
    fuzzing::prepare_request(&mut request, version);
    hop_is_over(&request, &named);
    assert!(request.keys().all(|name| !name.as_str().starts_with("x-forwarded-")));
    assert!(!request.contains_key("forwarded"));
    assert!(request.get_all(TE).iter().all(|value| value == "trailers"));
    if version == Version::HTTP_2 {
        assert!(request.get_all(COOKIE).iter().count() <= 1);
    }

    let mut response = given.clone();
    fuzzing::prepare_response(&mut response);
    hop_is_over(&response, &named);
    assert!(!response.contains_key(TE));
    assert!(response.get_all(CONTENT_LENGTH).iter().count() <= 1);
    if given.contains_key(TRANSFER_ENCODING) {
        assert!(!response.contains_key(CONTENT_LENGTH), "two framings");
    }
}

fn hop_is_over(headers: &HeaderMap, named: &[String]) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        assert!(!headers.contains_key(&name), "{name} goes on");
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate"] {
        assert!(!headers.contains_key(name), "{name} goes on");
    }
    // What says where a message goes, and how long it is, is not the hop's.
    let end_to_end = ["te", "host", "content-length"];
    for name in named.iter().filter(|name| !end_to_end.contains(&name.as_str())) {
        assert!(!headers.contains_key(name.as_str()), "{name} is named in Connection and goes on");
    }
}

fn connection_tokens(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| http::HeaderName::from_bytes(token.as_bytes()).is_ok())
        .collect()
}
