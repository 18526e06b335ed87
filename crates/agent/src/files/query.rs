//! What the query string of a request says, and whether the request is allowed.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::request::Parts;

use super::{
    refusal::{Refusal, Result},
    signature::{self, Claim, Operation},
};
use crate::{
    State,
    auth::{TOKEN_HEADER, Trusted},
};

/// The parameters that `/files` knows; of a repeated one the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Exactly as sent, before it is resolved.
    pub path: Option<String>,
    pub username: Option<String>,
    pub signature: Option<String>,
    /// Seconds since 1970.
    pub signature_expiration: Option<i64>,
}

impl Query {
    pub fn parse(query: &str) -> Result<Self> {
        let mut parsed = Self::default();
        let mut expiration = None;
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match key {
                "path" => &mut parsed.path,
                "username" => &mut parsed.username,
                "signature" => &mut parsed.signature,
                "signature_expiration" => &mut expiration,
                _ => continue,
            };
            if slot.is_none() {
                *slot = Some(decode(key, value)?);
            }
        }
        if let Some(text) = expiration {
            let seconds = text.parse().map_err(|_| {
                Refusal::bad_request("signature_expiration is not a number of seconds")
            })?;
            parsed.signature_expiration = Some(seconds);
        }
        Ok(parsed)
    }

    /// The user that the request names; an empty name is none.
    pub fn user(&self) -> Option<&str> {
        self.username.as_deref().filter(|name| !name.is_empty())
    }

    /// Checks the access token or the signature, if the sandbox has a token at all.
    pub fn authorize(&self, state: &State, request: &Parts, operation: Operation) -> Result<()> {
        let Some(token) = state.access_token() else { return Ok(()) };
        if request.extensions.get::<Trusted>().is_some() {
            return Ok(());
        }
        let claim = Claim {
            path: self.path.as_deref().unwrap_or_default(),
            username: self.username.as_deref().unwrap_or_default(),
            operation,
            expiration: self.signature_expiration,
        };
        let header = request.headers.get(TOKEN_HEADER).map(|value| value.as_bytes());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs().cast_signed());
        signature::check(&token, header, &claim, self.signature.as_deref(), now)
            .map_err(|denial| Refusal::unauthorized(denial.to_string()))
    }
}

fn decode(key: &str, value: &str) -> Result<String> {
    let spaced = value.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    match decoded {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Refusal::bad_request(format!("{key} is not valid UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_clients_send() {
        let query = Query::parse("path=%2Fa+b%2Bc%C3%A4&username=user&x=%ff&path=second").unwrap();
        assert_eq!(query.path.as_deref(), Some("/a b+cä"));
        assert_eq!(query.user(), Some("user"));
        assert_eq!(query.signature, None);
        assert_eq!(Query::parse("username=").unwrap().user(), None);
        assert_eq!(Query::parse("").unwrap(), Query::default());
    }

    #[test]
    fn refuses_what_is_no_text_or_no_number() {
        assert!(Query::parse("path=%ff%fe").is_err());
        for bad in ["soon", "", "1.5", "99999999999999999999", "0x10"] {
            assert!(Query::parse(&format!("signature_expiration={bad}")).is_err(), "{bad}");
        }
        let query = Query::parse("signature_expiration=-5").unwrap();
        assert_eq!(query.signature_expiration, Some(-5));
    }
}
