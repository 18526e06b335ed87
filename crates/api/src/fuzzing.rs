//! What fuzz targets call; no part of the interface. Refusals are told by their HTTP status.

use std::time::Duration;

use http::HeaderMap;
use serde::de::DeserializeOwned;
use soulbox_control::Create;
use soulbox_model::SandboxId;
use soulbox_wire::rest::{NewSandbox, NewSandboxV2};

use crate::{
    auth, body, path,
    problem::{Problem, Result},
    routes::sandboxes::create,
};

pub use crate::query::Query;

fn told<T>(result: Result<T>) -> std::result::Result<T, u16> {
    result.map_err(|problem: Problem| problem.status().as_u16())
}

/// A body as its route reads it.
///
/// # Errors
/// The status of the refusal.
pub fn body<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, u16> {
    told(body::parse(bytes))
}

/// The body of `POST /sandboxes` or `POST /v2/sandboxes` as a request to `control`.
///
/// # Errors
/// The status of the refusal.
pub fn create(bytes: &[u8], v2: bool) -> std::result::Result<Create, u16> {
    let request: NewSandbox =
        if v2 { body::<NewSandboxV2>(bytes)?.into() } else { body::<NewSandbox>(bytes)? };
    told(create::parse(request, Duration::from_secs(15), None))
}

/// # Errors
/// The status of the refusal.
pub fn template_name(text: &str) -> std::result::Result<String, u16> {
    told(create::template_name(text))
}

/// # Errors
/// The status of the refusal.
pub fn sandbox_id(text: &str) -> std::result::Result<SandboxId, u16> {
    told(path::sandbox_id(text))
}

/// # Errors
/// The status of the refusal.
pub fn query(text: &str) -> std::result::Result<Query, u16> {
    told(Query::parse(text))
}

/// # Errors
/// The status of the refusal.
pub fn idempotency_key(headers: &HeaderMap) -> std::result::Result<Option<String>, u16> {
    told(create::idempotency_key(headers))
}

/// The key that a request brings, if it could be one of this server.
///
/// # Errors
/// The status of the refusal.
pub fn key(headers: &HeaderMap) -> std::result::Result<Option<String>, u16> {
    let given = match told(auth::api_key(headers))? {
        Some(key) => Some(key),
        None => told(auth::bearer(headers))?,
    };
    Ok(given.filter(|key| auth::well_formed(key)).map(str::to_owned))
}

/// Everything that routes ask of a query string, one after the other.
pub fn ask(query: &Query, key: &str) {
    let _ = (query.text(key), query.integer(key, 0..=100), query.list(key), query.date(key));
    let _ = (query.unix_seconds(key), query.unix_millis(key), query.metadata());
}
