//! `POST /init`: settings that the host gives and changes while the sandbox runs.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::State as Shared,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    State,
    auth::{TOKEN_HEADER, token_matches},
    reply,
    state::Settings,
    trust,
};

/// Of `caBundle`, in bytes.
const LONGEST_BUNDLE: usize = 1 << 20;

const VERSION_HEADER: HeaderName = HeaderName::from_static("x-envd-version");

/// The body; every field may be absent, and so may the body. Unknown fields are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Request {
    /// Settings older than those applied last are not applied.
    timestamp: Option<DateTime<Utc>>,
    /// Replaces the whole set when present.
    env_vars: Option<BTreeMap<String, String>>,
    /// Absent: no token is asked for any more.
    access_token: Option<String>,
    default_user: Option<String>,
    default_workdir: Option<String>,
    /// The engine's business: a host that wants them must learn that it does not get them.
    volume_mounts: Option<Vec<Value>>,
    /// Certificates (PEM) to trust beside those of the template; they replace the last ones.
    ca_bundle: Option<String>,
}

/// Applies the settings; 204 also when they are too old to be applied.
pub async fn init(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mut response = match parse(&body) {
        Ok(request) => state.with_settings(|settings| apply(settings, request, &headers)),
        Err(message) => reply::text(StatusCode::BAD_REQUEST, &message),
    };
    response
        .headers_mut()
        .insert(VERSION_HEADER, HeaderValue::from_static(soulbox_model::ENVD_VERSION));
    response
}

fn parse(body: &[u8]) -> Result<Request, String> {
    if body.is_empty() {
        return Ok(Request::default());
    }
    let request: Request =
        serde_json::from_slice(body).map_err(|error| format!("cannot read the body: {error}"))?;
    let unusable = |token: &String| token.is_empty() || token.contains('\\');
    if request.access_token.as_ref().is_some_and(unusable) {
        return Err("accessToken must not be empty or contain a backslash".to_owned());
    }
    if request.volume_mounts.as_ref().is_some_and(|mounts| !mounts.is_empty()) {
        return Err("volumeMounts are not supported".to_owned());
    }
    if request.ca_bundle.as_ref().is_some_and(|bundle| bundle.len() > LONGEST_BUNDLE) {
        return Err(format!("caBundle must not exceed {LONGEST_BUNDLE} bytes"));
    }
    Ok(request)
}

/// The token that is set can be repeated or taken away only by who knows it.
fn authorised(settings: &Settings, request: &Request, headers: &HeaderMap) -> bool {
    let Some(token) = &settings.access_token else { return true };
    let in_body = request.access_token.as_ref().map(String::as_bytes);
    let in_header = headers.get(TOKEN_HEADER).map(HeaderValue::as_bytes);
    [in_body, in_header].into_iter().flatten().any(|given| token_matches(token, given))
}

fn apply(settings: &mut Settings, request: Request, headers: &HeaderMap) -> Response<Body> {
    if !authorised(settings, &request, headers) {
        return reply::text(StatusCode::UNAUTHORIZED, "access token validation failed");
    }
    let at = request.timestamp.and_then(|timestamp| timestamp.timestamp_nanos_opt());
    if at.is_some() && at < settings.applied_at {
        return reply::no_content();
    }
    // First what can fail: nothing is half applied.
    let bundle = request.ca_bundle.filter(|bundle| !bundle.is_empty());
    let trusts_more = bundle.is_some();
    if let Some(bundle) = bundle {
        if !settings.in_sandbox {
            let text = "caBundle: only a sandbox can be given certificates";
            return reply::text(StatusCode::BAD_REQUEST, text);
        }
        if let Err(error) = trust::install(&bundle) {
            let text = format!("could not trust the caBundle: {error}");
            return reply::text(StatusCode::INTERNAL_SERVER_ERROR, &text);
        }
    }
    settings.applied_at = at.max(settings.applied_at);
    if let Some(env) = request.env_vars {
        settings.env = env;
    }
    if trusts_more {
        trust::point_to(&mut settings.env);
    }
    settings.access_token = request.access_token.map(Into::into);
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(user) = given(request.default_user) {
        settings.default_user = user;
    }
    if let Some(workdir) = given(request.default_workdir) {
        settings.default_workdir = Some(workdir);
    }
    reply::no_content()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(settings: &mut Settings, body: Value) -> StatusCode {
        match parse(body.to_string().as_bytes()) {
            Ok(request) => apply(settings, request, &HeaderMap::new()).status(),
            Err(_) => StatusCode::BAD_REQUEST,
        }
    }

    #[test]
    fn a_token_guards_itself() {
        let mut settings = Settings::default();
        assert_eq!(call(&mut settings, json!({"accessToken": "one"})), StatusCode::NO_CONTENT);
        assert_eq!(call(&mut settings, json!({"accessToken": "two"})), StatusCode::UNAUTHORIZED);
        assert_eq!(call(&mut settings, json!({})), StatusCode::UNAUTHORIZED);
        assert_eq!(settings.access_token.as_deref(), Some("one"));
        assert_eq!(call(&mut settings, json!({"accessToken": "one"})), StatusCode::NO_CONTENT);
        let mut headers = HeaderMap::new();
        headers.insert(TOKEN_HEADER, HeaderValue::from_static("one"));
        let cleared = apply(&mut settings, Request::default(), &headers);
        assert_eq!(cleared.status(), StatusCode::NO_CONTENT);
        assert_eq!(settings.access_token, None);
    }

    #[test]
    fn variables_are_replaced_as_a_whole_and_only_when_given() {
        let mut settings = Settings::default();
        settings.internal_env.insert("E2B_SANDBOX".into(), "true".into());
        call(&mut settings, json!({"envVars": {"A": "1", "E2B_SANDBOX": "no"}}));
        let expected = [("A", "1"), ("E2B_SANDBOX", "true")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(settings.global_env(), expected.into());
        call(&mut settings, json!({"defaultUser": "user", "defaultWorkdir": ""}));
        assert_eq!(settings.env.len(), 2, "absent means keep");
        assert_eq!((settings.default_user.as_str(), settings.default_workdir), ("user", None));
    }

    #[test]
    fn older_settings_are_not_applied() {
        let mut settings = Settings::default();
        let call = |settings: &mut Settings, timestamp: &str, user: &str| {
            call(settings, json!({"timestamp": timestamp, "defaultUser": user}))
        };
        call(&mut settings, "2026-01-02T00:00:00Z", "new");
        assert_eq!(call(&mut settings, "2026-01-01T00:00:00Z", "old"), StatusCode::NO_CONTENT);
        assert_eq!(settings.default_user, "new");
        call(&mut settings, "2026-01-02T00:00:00Z", "same time");
        assert_eq!(settings.default_user, "same time");
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let mut settings = Settings::default();
        for body in [
            json!({"accessToken": ""}),
            json!({"accessToken": "a\\b"}),
            json!({"envVars": 1}),
            json!({"volumeMounts": [{"path": "/x"}]}),
            json!({"caBundle": "x".repeat(LONGEST_BUNDLE + 1)}),
            json!({"caBundle": "-----BEGIN CERTIFICATE-----"}),
        ] {
            assert_eq!(call(&mut settings, body.clone()), StatusCode::BAD_REQUEST, "{body}");
        }
        assert!(parse(b"").is_ok() && parse(b"{").is_err());
    }
}
