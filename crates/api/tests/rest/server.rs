//! A server in this process.

use std::sync::Arc;

use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use soulbox_api::ServerInfo;
use soulbox_control::{Config, Control, Limits};
use soulbox_image::{HOST, Templates};
use soulbox_model::{Resources, SandboxId};
use soulbox_store::Store;
use tower::ServiceExt;

use crate::machine::Machine;

/// An id that no sandbox has.
pub const NOBODY: &str = "i00000000000000000000";

pub struct Server {
    pub machine: Arc<Machine>,
    pub control: Control,
    pub key: String,
    pub router: Router,
    _dir: tempfile::TempDir,
}

impl Server {
    pub async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        let machine = Machine::new();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("soulbox.db")).await.unwrap();
        let team = store.default_team().id;
        let key = store.create_key(team, "test", None).await.unwrap().plain;
        let templates = Templates::open(dir.path().join("templates")).unwrap();
        templates.build(HOST, |_| {}).await.unwrap();
        let control = Control::open(Config {
            engine: machine.engine(),
            egress: soulbox_egress::Service::new(soulbox_egress::Config::default()),
            trusted: None,
            store,
            templates: Arc::new(templates),
            resources: Resources::default(),
            limits,
            domain: None,
            custom_domains: vec!["example".parse().unwrap()],
        })
        .await
        .unwrap();
        let info = ServerInfo {
            version: "1.2.3".into(),
            engine: "processes".into(),
            started_at: chrono::Utc::now(),
            resources: Resources::default(),
        };
        let router = soulbox_api::router(control.clone(), info);
        Self { machine, control, key, router, _dir: dir }
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body: body.to_vec() }
    }

    /// Sends a request with the key; an empty `body` is none.
    pub async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", &self.key)
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        self.send(request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &body.to_string()).await
    }

    /// The same without a key.
    pub async fn anonymous(&self, method: Method, path: &str) -> Answer {
        self.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
    }

    /// A running sandbox with 300 seconds to live, and what `extra` says.
    pub async fn sandbox(&self, extra: Value) -> SandboxId {
        let mut body = serde_json::json!({ "templateID": HOST, "timeout": 300 });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = self.post("/sandboxes", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["sandboxID"].as_str().unwrap().parse().unwrap()
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks that this is an error in E2B's shape with this status, and returns SoulBox's code.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert_eq!(body["code"], status, "{self:?}");
        assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        assert!(body["soulbox"]["retryable"].is_boolean(), "{self:?}");
        body["soulbox"]["code"].as_str().unwrap().to_owned()
    }
}

/// Checks that every one of `fields` is there and not null.
#[track_caller]
pub fn has_fields(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(object.get(field).is_some_and(|value| !value.is_null()), "{field} in {object}");
    }
}
