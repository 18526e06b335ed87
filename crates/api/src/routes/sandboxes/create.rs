//! Creating a sandbox: the request with the most fields, all from strangers.

use std::time::Duration;

use axum::{Json, extract::State};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use soulbox_control::{Create, Shape};
use soulbox_model::{
    Error, Resources, TeamId,
    network::{Egress, Network},
};
use soulbox_wire::rest::{NewSandbox, NewSandboxV2, RequestRules, Sandbox, SandboxShape};

use crate::{
    App,
    auth::KeyHolder,
    body::Body,
    problem::{Problem, Result},
    routes::{network, render, requests},
};

const MAX_NAME: usize = 128;
/// As many as `soulbox.toml` may list.
const MAX_PORTS: usize = 256;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// With the value `resolve`, `$NAME` in `envVars` is a secret, and `${placeholder:NAME}` stands for one
/// that the sandbox uses without holding it. Without it a dollar is a dollar, as
/// clients that know nothing of this expect.
const ENV_SECRETS: &str = "soulbox-env-secrets";

/// Create a sandbox.
#[utoipa::path(
    post,
    path = "/sandboxes",
    tag = "sandboxes",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 of a-z, 0-9 and -; a repeat returns the same sandbox"),
        ("SoulBox-Env-Secrets" = Option<String>, Header, description = "`resolve`: `$NAME` in envVars is a secret, `${placeholder:NAME}` a placeholder that becomes it on the way out, `$$` a dollar"),
    ),
    request_body = NewSandbox,
    responses((status = 201, body = Sandbox), Problem)
)]
pub async fn create_sandbox(
    KeyHolder(caller): KeyHolder,
    headers: HeaderMap,
    State(app): State<App>,
    Body(request): Body<NewSandbox>,
) -> Result<(StatusCode, Json<Sandbox>)> {
    run(&app, caller.team, &headers, request).await
}

/// Create a sandbox that demands its access token and lives 300 seconds if not said otherwise.
#[utoipa::path(
    post,
    path = "/v2/sandboxes",
    tag = "sandboxes",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 of a-z, 0-9 and -; a repeat returns the same sandbox"),
        ("SoulBox-Env-Secrets" = Option<String>, Header, description = "`resolve`: `$NAME` in envVars is a secret, `${placeholder:NAME}` a placeholder that becomes it on the way out, `$$` a dollar"),
    ),
    request_body = NewSandboxV2,
    responses((status = 201, body = Sandbox), Problem)
)]
pub async fn create_sandbox_v2(
    KeyHolder(caller): KeyHolder,
    headers: HeaderMap,
    State(app): State<App>,
    Body(request): Body<NewSandboxV2>,
) -> Result<(StatusCode, Json<Sandbox>)> {
    run(&app, caller.team, &headers, request.into()).await
}

async fn run(
    app: &App,
    team: TeamId,
    headers: &HeaderMap,
    request: NewSandbox,
) -> Result<(StatusCode, Json<Sandbox>)> {
    let idempotency_key = idempotency_key(headers)?;
    let timeout = match request.timeout {
        None => app.control.limits().default_timeout,
        Some(seconds) => positive(seconds)?,
    };
    let env_secrets = env_secrets(headers)?;
    let request = Create { env_secrets, ..parse(request, timeout, idempotency_key)? };
    let sandbox = app.control.create(team, request).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(render::sandbox(sandbox))))
}

/// How `control` says that a key came with another request before.
const MISMATCH: &str = "this Idempotency-Key was used with another request";

/// Newer clients choose their exception by these words.
fn refused(error: Error) -> Problem {
    if matches!(&error, Error::Conflict(text) if text.starts_with(MISMATCH)) {
        return Problem::with_status(error, StatusCode::UNPROCESSABLE_ENTITY)
            .error_code("idempotency_request_mismatch");
    }
    let word = match &error {
        Error::SandboxCreation { .. } => Some("sandbox_create_failed"),
        Error::SandboxStartupTimeout { .. } => Some("sandbox_placement_timeout"),
        Error::Internal { .. } => Some("internal_server_error"),
        _ => None,
    };
    let problem = Problem::from(error);
    match word {
        Some(word) => problem.error_code(word),
        None => problem,
    }
}

pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let valid = values.next().is_none()
        && (1..=255).contains(&value.len())
        && value.as_bytes().iter().all(plain);
    match value.to_str() {
        Ok(text) if valid => Ok(Some(text.to_owned())),
        _ => Err(Problem::invalid("Idempotency-Key", "must be once 1 to 255 of a-z, 0-9 and -")),
    }
}

fn env_secrets(headers: &HeaderMap) -> Result<bool> {
    let mut values = headers.get_all(ENV_SECRETS).iter();
    match (values.next().map(|value| value.as_bytes()), values.next()) {
        (None, _) => Ok(false),
        (Some(b"resolve"), None) => Ok(true),
        _ => Err(Problem::invalid("SoulBox-Env-Secrets", "must be once `resolve`, or absent")),
    }
}

fn positive(seconds: i32) -> Result<Duration> {
    match u64::try_from(seconds) {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err(Problem::invalid("timeout", "Timeout must be greater than 0")),
    }
}

pub(crate) fn parse(
    request: NewSandbox,
    timeout: Duration,
    idempotency_key: Option<String>,
) -> Result<Create> {
    refuse_what_comes_later(&request)?;
    let secure = request.secure.unwrap_or(false);
    let flag = request.allow_internet_access;
    let mut network =
        request.network.map(|asked| network::parse(asked, flag, secure)).transpose()?;
    let asked = request.soulbox.unwrap_or_default();
    if let Some(numbers) = &asked.ports {
        let ports = network::ports("soulbox.ports", numbers, MAX_PORTS)?;
        let network = network.get_or_insert_with(|| Network::of_internet(flag));
        network.ingress.exposed = Some(ports);
    }
    if let Some(rules) = asked.requests.as_ref().filter(|&rules| *rules != RequestRules::default())
    {
        let network = network.get_or_insert_with(|| Network::of_internet(flag));
        network.egress = demanding(std::mem::take(&mut network.egress), rules)?;
    }
    Ok(Create {
        template: template_name(&request.template_id)?,
        timeout,
        metadata: request.metadata.unwrap_or_default(),
        env: request.env_vars.unwrap_or_default(),
        env_secrets: false,
        secure,
        auto_pause: false,
        allow_internet: flag,
        network,
        shape: shape(&asked),
        idempotency_key,
    })
}

/// The same with rules about requests and amounts.
fn demanding(egress: Egress, rules: &RequestRules) -> Result<Egress> {
    const AT: &str = "soulbox.requests";
    let egress = egress.with(requests::demands(&format!("{AT}."), rules)?);
    egress.check().map_err(|error| error.below(AT))?;
    Ok(egress)
}

fn shape(asked: &SandboxShape) -> Shape {
    let SandboxShape { cpu_millis, memory_bytes, disk_bytes, no_setuid, read_only, .. } = *asked;
    let usual = Resources::default();
    let differs = cpu_millis.is_some() || memory_bytes.is_some() || disk_bytes.is_some();
    let resources = differs.then(|| Resources {
        cpu_millis: cpu_millis.unwrap_or(usual.cpu_millis),
        memory_bytes: memory_bytes.unwrap_or(usual.memory_bytes),
        disk_bytes: disk_bytes.unwrap_or(usual.disk_bytes),
        pids: usual.pids,
    });
    Shape { resources, no_setuid, read_only }
}

/// A field that asks for something this server does not do is refused: a sandbox that silently
/// lacks it would lose data or be open where its owner thinks it closed.
fn refuse_what_comes_later(request: &NewSandbox) -> Result<()> {
    if request.misspelt_internet_access == Some(false) {
        let why = "unknown field; did you mean `allow_internet_access`?";
        return Err(Problem::invalid("allowInternetAccess", why));
    }
    let auto_pause = request.auto_pause.unwrap_or(false);
    if request.auto_pause_memory == Some(false) {
        if !auto_pause {
            return Err(Problem::invalid("autoPauseMemory", "false requires autoPause"));
        }
        if request.auto_resume.is_some_and(|resume| resume.enabled) {
            return Err(Problem::invalid("autoResume", "can't go with autoPauseMemory false"));
        }
    }
    if auto_pause {
        return Err(Problem::not_implemented("pausing a sandbox at its timeout (autoPause)"));
    }
    if request.iam.as_ref().is_some_and(asks_for_something) {
        return Err(Problem::invalid("iam", "this server has no identity tokens; leave it out"));
    }
    if request.volume_mounts.as_ref().is_some_and(|mounts| !mounts.is_empty()) {
        return Err(Problem::not_implemented("mounting volumes (volumeMounts)"));
    }
    Ok(())
}

/// Whether any value differs from what its absence means.
fn asks_for_something(object: &Map<String, Value>) -> bool {
    object.values().any(|value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
        Value::Array(items) => !items.is_empty(),
        Value::Object(inner) => !inner.is_empty(),
    })
}

/// `[namespace/]name[:tag]` in canonical form: parts trimmed and in lower case.
pub fn template_name(text: &str) -> Result<String> {
    let bad = |why: &str| Problem::invalid("templateID", format!("invalid template name: {why}"));
    if text.len() > 4 * MAX_NAME {
        return Err(bad("too long"));
    }
    let text = text.trim().to_lowercase();
    let (path, tag) = match text.split_once(':') {
        Some((path, tag)) => (path, Some(tag.trim())),
        None => (text.as_str(), None),
    };
    let (namespace, name) = match path.split_once('/') {
        Some((namespace, name)) => (Some(namespace.trim()), name.trim()),
        None => (None, path.trim()),
    };
    let word = |part: &str| {
        (1..=MAX_NAME).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let tag_word = |part: &str| {
        (1..=MAX_NAME).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !word(name) || !namespace.is_none_or(word) {
        return Err(bad("names are 1 to 128 of a-z, 0-9, - and _"));
    }
    if !tag.is_none_or(tag_word) {
        return Err(bad("tags are 1 to 128 of a-z, 0-9, -, _ and ."));
    }
    let namespace = namespace.map(|text| format!("{text}/")).unwrap_or_default();
    let tag = tag.map(|text| format!(":{text}")).unwrap_or_default();
    Ok(format!("{namespace}{name}{tag}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn request(extra: Value) -> NewSandbox {
        let mut body = json!({"templateID": "base"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(body).unwrap()
    }

    fn status_of(extra: Value) -> u16 {
        match parse(request(extra), Duration::from_secs(1), None) {
            Ok(_) => 0,
            Err(problem) => problem.status().as_u16(),
        }
    }

    #[test]
    fn what_clients_send_by_default_is_accepted() {
        for extra in [
            json!({}),
            json!({"metadata": {}, "envVars": {}}),
            json!({"timeout": 300, "secure": true, "allow_internet_access": true, "autoPause": false}),
            json!({"autoResume": {"enabled": false}, "mcp": null, "iam": {}, "volumeMounts": []}),
            json!({"network": {"allowPublicTraffic": true, "allowOut": [], "rules": {}, "egressProxy": null}}),
            json!({"metadata": null, "network": null, "somethingNew": {"a": [1]}}),
        ] {
            assert_eq!(status_of(extra.clone()), 0, "{extra}");
        }
    }

    #[test]
    fn what_comes_later_is_a_501_and_not_a_silent_loss() {
        for extra in [
            json!({"autoPause": true}),
            json!({"autoPause": true, "autoPauseMemory": false}),
            json!({"volumeMounts": [{"name": "a", "path": "/b"}]}),
        ] {
            assert_eq!(status_of(extra.clone()), 501, "{extra}");
        }
    }

    #[test]
    fn contradictions_are_a_400() {
        for extra in [
            json!({"iam": {"tokens": {"a": {"audience": "b", "tokenType": "JWT-SVID"}}}}),
            json!({"allowInternetAccess": false}),
            json!({"network": {"allowInternetAccess": false}}),
            json!({"network": {"allow_public_traffic": false}, "secure": true}),
            json!({"autoPauseMemory": false}),
            json!({"autoPause": true, "autoPauseMemory": false, "autoResume": {"enabled": true}}),
            json!({"network": {"allowPublicTraffic": false}}),
            json!({"network": {"allowPublicTraffic": false}, "secure": false}),
            json!({"network": {"maskRequestHost": "a b"}}),
            json!({"network": {"maskRequestHost": "a\r\nX: y"}}),
            json!({"network": {"maskRequestHost": ""}}),
        ] {
            assert_eq!(status_of(extra.clone()), 400, "{extra}");
        }
    }

    #[test]
    fn template_names_are_canonical() {
        for (given, expected) in [
            ("base", "base"),
            (" Base ", "base"),
            ("base:default", "base:default"),
            ("NS / My_Name : V1.0", "ns/my_name:v1.0"),
        ] {
            assert_eq!(template_name(given).ok().as_deref(), Some(expected));
        }
        for bad in ["", " ", "a b", "a/b/c", "a:b:c", "a:", "/a", "a/", "é", "../x", "a\0"] {
            assert_eq!(template_name(bad).unwrap_err().status(), 400, "{bad:?}");
        }
        assert!(template_name(&"a".repeat(129)).is_err());
    }

    #[test]
    fn idempotency_keys_have_a_form() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_str(text).unwrap());
            headers
        };
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
        assert_eq!(idempotency_key(&with("a-1")).unwrap().as_deref(), Some("a-1"));
        for bad in ["", "A", "a b", "a_b", &"a".repeat(256)] {
            assert!(idempotency_key(&with(bad)).is_err(), "{bad}");
        }
        let mut twice = with("a");
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        assert!(idempotency_key(&twice).is_err());
    }

    proptest! {
        #[test]
        fn a_canonical_template_name_stays(text in ".{0,40}") {
            if let Ok(name) = template_name(&text) {
                prop_assert_eq!(template_name(&name).unwrap(), name);
            }
        }

        #[test]
        fn only_positive_timeouts_pass(seconds in any::<i32>()) {
            prop_assert_eq!(positive(seconds).is_ok(), seconds > 0);
        }
    }
}
