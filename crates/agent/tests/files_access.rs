//! Who may read and write files of a sandbox with an access token.

#![allow(clippy::unwrap_used, clippy::panic)]

mod files_support;
mod support;

use std::{
    fs,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::body::Body;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use bytes::Bytes;
use files_support::{BINARY, files, request};
use http::{Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use soulbox_agent::{Settings, State, server::Routers};
use support::{Agent, agent_with};
use tower::ServiceExt;

const TOKEN: &str = "5ecbe7";

fn settings() -> Settings {
    Settings {
        default_user: "root".into(),
        access_token: Some(TOKEN.into()),
        ..Settings::default()
    }
}

fn sign(text: &str) -> String {
    let signature = format!("v1_{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(text)));
    utf8_percent_encode(&signature, NON_ALPHANUMERIC).to_string()
}

async fn status(agent: &Agent, method: Method, uri: &str, token: Option<&str>) -> (u16, String) {
    let mut headers = vec![("content-type", BINARY)];
    headers.extend(token.map(|token| ("x-access-token", token)));
    let answer = request(agent, method, uri, &headers, Bytes::from_static(b"new")).await;
    let message = match answer.status.is_success() {
        true => String::new(),
        false => answer.json()["message"].as_str().unwrap().to_owned(),
    };
    (answer.status.as_u16(), message)
}

#[tokio::test]
async fn the_token_opens_everything_and_a_wrong_one_nothing() {
    let agent = agent_with(settings());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let uri = files(&file);
    for method in [Method::GET, Method::POST] {
        assert_eq!(status(&agent, method.clone(), &uri, Some(TOKEN)).await.0, 200);
        let (code, message) = status(&agent, method.clone(), &uri, Some("wrong")).await;
        assert_eq!(
            (code, message.as_str()),
            (401, "access token present in header but does not match")
        );
        let (code, message) = status(&agent, method, &uri, None).await;
        assert_eq!((code, message.as_str()), (401, "missing signature query parameter"));
    }
    assert_eq!(fs::read(&file).unwrap(), b"new", "written with the right token only");
    let compose = status(&agent, Method::POST, "/files/compose", None).await;
    assert_eq!(compose.0, 401);
}

#[tokio::test]
async fn a_signature_opens_one_file_for_one_purpose_until_it_expires() {
    let agent = agent_with(settings());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a+b c");
    let shown = path.to_str().unwrap();
    fs::write(&path, "x").unwrap();
    fs::write(dir.path().join("other"), "x").unwrap();
    let uri = files(&path);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let read = sign(&format!("{shown}:read::{TOKEN}"));
    let later = now + 60;
    let timed = sign(&format!("{shown}:read:root:{TOKEN}:{later}"));
    let past = now - 1;
    let expired = sign(&format!("{shown}:read::{TOKEN}:{past}"));
    let other = files(dir.path().join("other"));
    let dotted = files(dir.path().join("x/../a+b c"));
    let denied = "invalid signature";
    for (uri, token, expected) in [
        (format!("{uri}&signature={read}"), None, (200, "")),
        (
            format!("{uri}&username=root&signature={timed}&signature_expiration={later}"),
            None,
            (200, ""),
        ),
        (format!("{uri}&username=root&signature={timed}"), None, (401, denied)),
        (format!("{uri}&signature={timed}&signature_expiration={later}"), None, (401, denied)),
        (format!("{uri}&signature={read}&signature_expiration={later}"), None, (401, denied)),
        (
            format!("{uri}&signature={expired}&signature_expiration={past}"),
            None,
            (401, "signature is already expired"),
        ),
        (format!("{uri}&signature={expired}&signature_expiration={later}"), None, (401, denied)),
        (format!("{other}&signature={read}"), None, (401, denied)),
        (format!("{dotted}&signature={read}"), None, (401, denied)),
        (format!("{uri}&username=root&signature={read}"), None, (401, denied)),
        (format!("{uri}&signature="), None, (401, denied)),
        (
            format!("{uri}&signature={read}"),
            Some("wrong"),
            (401, "access token present in header but does not match"),
        ),
    ] {
        let (code, message) = status(&agent, Method::GET, &uri, token).await;
        assert_eq!((code, message.as_str()), expected, "{uri}");
    }
    let to_write = format!("{uri}&signature={read}");
    assert_eq!(status(&agent, Method::POST, &to_write, None).await.0, 401);
    assert_eq!(fs::read(&path).unwrap(), b"x");
    let write = sign(&format!("{shown}:write::{TOKEN}"));
    let to_write = format!("{uri}&signature={write}");
    assert_eq!(status(&agent, Method::POST, &to_write, None).await.0, 200);
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[tokio::test]
async fn the_server_needs_no_token() {
    let routers = Routers::new(Arc::new(State::new(settings())));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let get = || Request::get(files(&file)).body(Body::empty()).unwrap();
    assert_eq!(routers.control.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(routers.clients.oneshot(get()).await.unwrap().status(), 401);
}
