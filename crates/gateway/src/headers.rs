//! Which headers go through the gateway, and which end at it.

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{
        self, CONNECTION, CONTENT_LENGTH, COOKIE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Ends at every hop, whether or not `Connection` names it. `Trailer` stays: the trailers themselves
/// go through.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Never ends at a hop, though `Connection` may name it: it says where a message goes or how long it is.
const END_TO_END: [HeaderName; 2] = [header::HOST, CONTENT_LENGTH];

/// Turns a client's headers into those of a request over HTTP/1.1 without a framing of its own.
pub(crate) fn prepare_request(headers: &mut HeaderMap, version: Version) {
    let trailers = list(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    strip_hop_by_hop(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    strip_forwarded(headers);
    if version == Version::HTTP_2 {
        join_cookies(headers);
    }
}

/// Turns the headers of a sandbox's answer into those of an answer to any client.
pub(crate) fn prepare_response(headers: &mut HeaderMap) {
    // With both, the body was read by Transfer-Encoding (RFC 9112 §6.3): the length is a lie.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    // Equal lengths given twice were accepted as one.
    if let Some(first) = headers.get(CONTENT_LENGTH).cloned() {
        headers.insert(CONTENT_LENGTH, first);
    }
    strip_hop_by_hop(headers);
}

/// The protocol that an HTTP/1.1 client asks to change to.
pub(crate) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    list(headers, &CONNECTION)
        .any(|token| token.eq_ignore_ascii_case("upgrade"))
        .then(|| headers.get(UPGRADE).cloned())
        .flatten()
}

/// Asks the next hop to change protocol; to be called after the hop-by-hop headers are gone.
/// `settings` is what an `h2c` upgrade carries.
pub(crate) fn ask_upgrade(
    headers: &mut HeaderMap,
    protocol: HeaderValue,
    settings: Option<HeaderValue>,
) {
    headers.insert(UPGRADE, protocol);
    let connection = match settings {
        Some(settings) => {
            headers.insert(HTTP2_SETTINGS, settings);
            "Upgrade, HTTP2-Settings"
        }
        None => "Upgrade",
    };
    headers.insert(CONNECTION, HeaderValue::from_static(connection));
}

pub(crate) fn http2_settings(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(HTTP2_SETTINGS).cloned()
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = list(headers, &CONNECTION)
            .filter_map(|token| token.parse().ok())
            .filter(|name| !END_TO_END.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Only a proxy that the operator runs could vouch for these; the sandbox must not take them from a client.
fn strip_forwarded(headers: &mut HeaderMap) {
    headers.remove(header::FORWARDED);
    let forwarded: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-forwarded-")).cloned().collect();
    for name in forwarded {
        headers.remove(name);
    }
}

/// HTTP/2 clients may send cookies in several fields; HTTP/1.1 has one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The members of a comma-separated field, over all its lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn hop_by_hop_and_forwarded_headers_end_here() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Secret-Hop"),
            ("connection", "te"),
            ("x-secret-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eDp5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-anything", "x"),
            ("x-access-token", "kept"),
            ("trailer", "x-sum"),
        ]);
        prepare_request(&mut headers, Version::HTTP_11);
        assert_eq!(
            headers,
            map(&[("te", "trailers"), ("x-access-token", "kept"), ("trailer", "x-sum")])
        );
    }

    #[test]
    fn connection_takes_neither_the_host_nor_the_length() {
        let mut headers = map(&[
            ("connection", "close, Host, Content-Length, Transfer-Encoding, x-mine"),
            ("host", "a.example.com"),
            ("content-length", "3"),
            ("x-mine", "1"),
        ]);
        prepare_request(&mut headers, Version::HTTP_11);
        assert_eq!(headers, map(&[("host", "a.example.com"), ("content-length", "3")]));
    }

    #[test]
    fn cookie_crumbs_of_http2_become_one_field() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
        prepare_request(&mut headers, Version::HTTP_2);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2; c=3")]));
    }

    #[test]
    fn a_length_beside_chunked_is_dropped() {
        let mut headers = map(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        prepare_response(&mut headers);
        assert!(headers.is_empty());
        let mut headers = map(&[("content-length", "3"), ("content-length", "3")]);
        prepare_response(&mut headers);
        assert_eq!(headers, map(&[("content-length", "3")]));
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        assert_eq!(wanted_upgrade(&map(&[("upgrade", "websocket")])), None);
        assert_eq!(wanted_upgrade(&map(&[("connection", "upgrade")])), None);
        let both = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(wanted_upgrade(&both).unwrap(), "websocket");
    }
}
