//! What fuzz targets call; no part of the interface.

use http::{HeaderMap, Version, request::Parts};

use crate::{
    headers,
    route::{self, Host, Route},
};

/// [`Route`], for those who cannot name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    Api,
    Sandbox { name: String, id: Option<String>, port: u16 },
    AccessToken(String),
    Link,
}

/// Where a request goes, or why nowhere.
///
/// # Errors
/// What the client is told.
pub fn route(parts: &Parts, domain: Option<&str>) -> Result<Routed, String> {
    match route::route(parts, domain, |_| None) {
        Ok(Route::Api) => Ok(Routed::Api),
        Ok(Route::AccessToken(token)) => Ok(Routed::AccessToken(token)),
        Ok(Route::Link(_)) => Ok(Routed::Link),
        Ok(Route::Sandbox(destination)) => Ok(Routed::Sandbox {
            name: destination.name,
            id: destination.id.map(String::from),
            port: destination.port.get(),
        }),
        Err(refused) => Err(refused.to_string()),
    }
}

/// Name and port of a host as it stands in a `Host` header.
pub fn host(text: &[u8]) -> Option<(String, Option<u16>)> {
    Host::parse(text).ok().map(Host::into_parts)
}

/// The domain that a setting names.
pub fn domain_name(text: &str) -> Option<String> {
    route::domain_name(text)
}

/// A client's headers as a sandbox gets them.
pub fn prepare_request(headers: &mut HeaderMap, version: Version) {
    headers::prepare_request(headers, version);
}

/// A sandbox's headers as a client gets them.
pub fn prepare_response(headers: &mut HeaderMap) {
    headers::prepare_response(headers);
}
