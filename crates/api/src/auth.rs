//! Who a request is from.
//!
//! `X-API-Key` decides alone when it is there: some clients send a foreign or stale Bearer token
//! beside it. Routes that E2B opens to access tokens take an API key as Bearer token too.

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};
use soulbox_control::{Caller, Control};

use crate::App;
use crate::problem::{Problem, Result};

const API_KEY: &str = "x-api-key";

/// Longer keys are refused unread.
const MAX_KEY: usize = 128;

/// A caller with a valid `X-API-Key`.
#[derive(Debug, Clone)]
pub struct KeyHolder(pub Caller);

/// A caller with a valid key in `X-API-Key` or as Bearer token, and that key.
#[derive(Clone)]
pub struct TokenHolder {
    pub caller: Caller,
    pub key: String,
}

impl std::fmt::Debug for TokenHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenHolder").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl FromRequestParts<App> for KeyHolder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let key = api_key(&parts.headers)?.ok_or_else(missing)?;
        Ok(Self(authenticate(&app.control, key).await?))
    }
}

impl FromRequestParts<App> for TokenHolder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let key = match api_key(&parts.headers)? {
            Some(key) => key,
            None => bearer(&parts.headers)?.ok_or_else(missing)?,
        };
        let caller = authenticate(&app.control, key).await?;
        Ok(Self { caller, key: key.to_owned() })
    }
}

async fn authenticate(control: &Control, key: &str) -> Result<Caller> {
    if !well_formed(key) {
        return Err(Problem::unauthorized(
            "API key",
            "invalid API key format: expected `e2b_` and hexadecimal digits",
        ));
    }
    let caller = control.authenticate(key).await?;
    tracing::Span::current().record("team", tracing::field::display(caller.team));
    Ok(caller)
}

pub(crate) fn well_formed(key: &str) -> bool {
    key.len() <= MAX_KEY
        && key.strip_prefix("e2b_").is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
}

fn missing() -> Problem {
    Problem::unauthorized(
        "API key",
        "no authorization header: send an API key of this server in X-API-Key (`soulbox key create`)",
    )
}

pub(crate) fn api_key(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut values = headers.get_all(API_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::unauthorized("API key", "X-API-Key is there more than once"));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| Problem::unauthorized("API key", "invalid API key format: not ASCII text"))
}

pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token.map(Some).ok_or_else(|| {
        Problem::unauthorized("access token", "Authorization must be `Bearer <token>`")
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn a_key_is_the_prefix_and_lower_case_hex() {
        assert!(well_formed("e2b_00ff"));
        for bad in ["", "e2b_", "e2b_00FF", "e2b_0g", "sk_e2b_00", "E2B_00", "e2b_00\n", " e2b_00"]
        {
            assert!(!well_formed(bad), "{bad:?}");
        }
        assert!(!well_formed(&format!("e2b_{}", "0".repeat(200))));
    }

    #[test]
    fn one_api_key_header_is_read_and_two_are_refused() {
        assert_eq!(api_key(&headers(&[])).ok(), Some(None));
        let one = headers(&[("x-api-key", "e2b_01")]);
        assert_eq!(api_key(&one).ok(), Some(Some("e2b_01")));
        let two = headers(&[("x-api-key", "e2b_01"), ("x-api-key", "e2b_02")]);
        assert_eq!(api_key(&two).unwrap_err().status(), 401);
    }

    #[test]
    fn a_bearer_scheme_is_read_in_any_case() {
        for text in ["Bearer e2b_01", "bearer e2b_01", "BEARER  e2b_01"] {
            assert_eq!(bearer(&headers(&[("authorization", text)])).ok(), Some(Some("e2b_01")));
        }
        assert!(bearer(&headers(&[("authorization", "Basic dXNlcjo=")])).is_err());
        assert_eq!(bearer(&headers(&[])).ok(), Some(None));
    }
}
