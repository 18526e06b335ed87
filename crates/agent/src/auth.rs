//! Who asks, and whether they may: the access token and the acting user.

use std::sync::Arc;

use axum::{
    extract::{Request, State as Shared},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::Engine;
use connectrpc::ConnectError;
use subtle::ConstantTimeEq;

use crate::{
    State, reply,
    users::{NoUser, Users},
};

/// Carries the access token.
pub const TOKEN_HEADER: &str = "x-access-token";

const UNAUTHORIZED: &str = "unauthorized access, please provide a valid access token or method \
                            signing if supported";

/// The user that a request names by HTTP Basic authentication; its password means nothing.
///
/// In the extensions of every request, and of the [`connectrpc::RequestContext`] of every RPC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acting {
    /// A user that existed when the request came in; the default user acts when absent.
    pub name: Option<Arc<str>>,
}

/// Marks requests on the control listener: the server needs no access token.
#[derive(Debug, Clone, Copy)]
pub struct Trusted;

impl Acting {
    pub fn of(extensions: &http::Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }
}

/// Whether `given` is the access token; takes equally long for all texts of one length.
pub fn token_matches(token: &str, given: &[u8]) -> bool {
    token.as_bytes().ct_eq(given).into()
}

/// Refuses requests without the access token, if one is set.
///
/// `/health` is for everybody; `/files` checks the token or a signature itself.
pub async fn check_token(
    Shared(state): Shared<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let exempt = matches!(
        (request.method(), request.uri().path()),
        (&Method::GET, "/health" | "/files") | (&Method::POST, "/files" | "/init")
    );
    if !exempt && let Some(token) = state.access_token() {
        let given = request.headers().get(TOKEN_HEADER);
        if !given.is_some_and(|given| token_matches(&token, given.as_bytes())) {
            return reply::error(StatusCode::UNAUTHORIZED, UNAUTHORIZED);
        }
    }
    next.run(request).await
}

/// Notes the [`Acting`] user; refuses one that does not exist.
pub async fn note_acting_user(mut request: Request, next: Next) -> Response {
    let name = basic_user(request.headers());
    if let Some(name) = &name
        && let Err(why) = Users::load().find(name)
    {
        let error = match why {
            NoUser::Unknown => ConnectError::unauthenticated(format!("invalid username: '{name}'")),
            NoUser::Unreadable(why) => ConnectError::internal(why.to_string()),
        };
        return error.into_http_response(request.headers()).into_response();
    }
    request.extensions_mut().insert(Acting { name });
    next.run(request).await
}

/// The user name of a Basic `Authorization` header; absent when there is none or it is broken.
fn basic_user(headers: &HeaderMap) -> Option<Arc<str>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::prelude::BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, _password) = text.split_once(':')?;
    (!name.is_empty()).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_of(value: &str) -> Option<Arc<str>> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        basic_user(&headers)
    }

    #[test]
    fn a_basic_header_names_the_user() {
        assert_eq!(user_of("Basic dXNlcjo=").as_deref(), Some("user"));
        assert_eq!(user_of("basic cm9vdDpzZWNyZXQ=").as_deref(), Some("root"));
    }

    #[test]
    fn what_is_no_basic_header_names_nobody() {
        for value in ["Bearer dXNlcjo=", "Basic", "Basic ???", "Basic dXNlcg==", "Basic Og=="] {
            assert_eq!(user_of(value), None, "{value}");
        }
    }

    #[test]
    fn tokens_match_only_themselves() {
        assert!(token_matches("secret", b"secret"));
        for wrong in [&b""[..], b"secre", b"secret1", b"Secret"] {
            assert!(!token_matches("secret", wrong));
        }
    }
}
