//! Whether a request may go to a port of a sandbox whose ports are private.
//!
//! Programs bear the token in a header. A browser can't: it is given an address with a pass in it,
//! and from then on shows a cookie, which holds for one port of one sandbox. Neither header, pass
//! nor cookie goes on to the sandbox.

use axum::body::Body;
use chrono::{TimeDelta, Utc};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{self, COOKIE},
};
use hyper::ext::Protocol;
use soulbox_control::{Pass, PortAccess};
use soulbox_model::Port;

use crate::{answer::wants_page, headers};

pub(crate) const TRAFFIC_TOKEN: HeaderName = HeaderName::from_static("e2b-traffic-access-token");

/// Tells the browser itself to keep it to this host and to TLS.
const COOKIE_TLS: &str = "__Host-soulbox-traffic";
const COOKIE_PLAIN: &str = "soulbox-traffic";
/// How long a browser stays let in.
const COOKIE_LIFE: TimeDelta = TimeDelta::hours(12);

/// Why a request may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Missing,
    Invalid,
    /// The browser would let in a page of another site, or another sandbox, as its user.
    OtherOrigin,
}

/// What becomes of a request that may go on.
#[derive(Debug)]
pub(crate) enum Entry {
    Passes,
    /// The browser takes a cookie and asks again, without the pass in the address.
    Answered(Box<Response<Body>>),
}

/// Checks a request and takes away what it bore.
pub(crate) fn enter<B>(
    access: &PortAccess,
    port: Port,
    tls: bool,
    request: &mut Request<B>,
) -> Result<Entry, Refusal> {
    if access.is_public() {
        return Ok(Entry::Passes);
    }
    let borne = request.headers_mut().remove(TRAFFIC_TOKEN);
    let (pass, uri) = without_pass(request.uri());
    let cookie = take_cookie(request.headers_mut(), if tls { COOKIE_TLS } else { COOKIE_PLAIN });
    let now = Utc::now();
    if let Some(uri) = uri {
        *request.uri_mut() = uri;
    }
    if let Some(token) = borne {
        return if access.admits(token.as_bytes()) {
            Ok(Entry::Passes)
        } else {
            Err(Refusal::Invalid)
        };
    }
    if let Some(pass) = pass {
        let good = access.admits(pass.as_bytes())
            || access.admits_pass(Pass::Url, port, pass.as_bytes(), now);
        if !good {
            return Err(Refusal::Invalid);
        }
        return Ok(if navigates(request) {
            let until = now + COOKIE_LIFE;
            Entry::Answered(Box::new(welcome(
                request.uri(),
                access.pass(Pass::Cookie, port, until).unwrap_or_default(),
                tls,
            )))
        } else {
            Entry::Passes
        });
    }
    let admitted = |value: &Vec<u8>| access.admits_pass(Pass::Cookie, port, value, now);
    if !cookie.iter().any(admitted) {
        return Err(Refusal::Missing);
    }
    if is_from_here(request) { Ok(Entry::Passes) } else { Err(Refusal::OtherOrigin) }
}

/// The pass in an address, and the address without it.
fn without_pass(uri: &Uri) -> (Option<String>, Option<Uri>) {
    let Some(query) = uri.query() else { return (None, None) };
    let mut pass = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case(TRAFFIC_TOKEN.as_str()) => {
                pass = Some(value.to_owned());
            }
            _ => rest.push(pair),
        }
    }
    if pass.is_none() {
        return (None, None);
    }
    let path = match rest[..] {
        [] => uri.path().to_owned(),
        _ => format!("{}?{}", uri.path(), rest.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    (pass, Uri::from_parts(parts).ok())
}

/// Removes our cookie from a request, and returns every value that was given for it: a sibling can
/// plant one of the same name beside it.
fn take_cookie(headers: &mut HeaderMap, name: &str) -> Vec<Vec<u8>> {
    let ours = |pair: &[u8]| {
        let (given, value) = pair.split_at(pair.iter().position(|b| *b == b'=')?);
        [COOKIE_TLS, COOKIE_PLAIN]
            .contains(&std::str::from_utf8(given).ok()?)
            .then(|| (given == name.as_bytes(), value[1..].to_vec()))
    };
    let mut taken = Vec::new();
    let mut kept = Vec::new();
    let mut found = false;
    for line in headers.get_all(COOKIE) {
        for pair in line.as_bytes().split(|b| *b == b';').map(<[u8]>::trim_ascii) {
            match ours(pair) {
                Some((right, value)) => {
                    found = true;
                    if right {
                        taken.push(value);
                    }
                }
                None => kept.push(pair),
            }
        }
    }
    if found {
        let joined = HeaderValue::from_bytes(&kept.join(&b"; "[..]));
        headers.remove(COOKIE);
        if let Some(joined) = joined.ok().filter(|joined| !joined.is_empty()) {
            headers.insert(COOKIE, joined);
        }
    }
    taken
}

/// Whether a person opens a page, rather than a script or program fetching something.
fn navigates<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && headers::wanted_upgrade(request.headers()).is_none()
        && wants_page(request.headers())
}

/// Whether a request that only a cookie lets in comes from a page of the same host, or from the
/// person at the browser. All sandboxes of a domain are one site to a browser, so `SameSite` alone
/// would let one ride on the cookie of another.
fn is_from_here<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let upgrades = headers::wanted_upgrade(headers).is_some()
        || request.extensions().get::<Protocol>().is_some();
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => headers.get(header::HOST).map(HeaderValue::as_bytes),
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins.next().map(HeaderValue::as_bytes);
    if origins.next().is_some() {
        return false;
    }
    let same_origin = origin.map(|origin| {
        let scheme = ["https://", "http://"]
            .iter()
            .find_map(|scheme| origin.strip_prefix(scheme.as_bytes()));
        scheme.is_some()
            && scheme.map(<[u8]>::to_ascii_lowercase) == host.map(<[u8]>::to_ascii_lowercase)
    });
    if same_origin == Some(false) || (upgrades && same_origin.is_none()) {
        return false;
    }
    let word = |name: &'static str| headers.get(name).map(HeaderValue::as_bytes);
    match word("sec-fetch-site") {
        None | Some(b"same-origin" | b"none") => true,
        // A link from elsewhere, opened in the browser's own window.
        Some(_) => {
            matches!(*request.method(), Method::GET | Method::HEAD)
                && word("sec-fetch-mode") == Some(b"navigate")
                && word("sec-fetch-dest").is_none_or(|dest| dest == b"document")
        }
    }
}

fn welcome(uri: &Uri, cookie: String, tls: bool) -> Response<Body> {
    // A path of two slashes would be another host.
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = format!("/{}", path.trim_start_matches(['/', '\\']));
    let life = COOKIE_LIFE.num_seconds();
    let cookie = if tls {
        format!("{COOKIE_TLS}={cookie}; Path=/; Max-Age={life}; HttpOnly; SameSite=Lax; Secure")
    } else {
        format!("{COOKIE_PLAIN}={cookie}; Path=/; Max-Age={life}; HttpOnly; SameSite=Lax")
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    for (name, value) in [(header::LOCATION, path), (header::SET_COOKIE, cookie)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
#[path = "ingress_tests.rs"]
mod tests;
