use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::json;
use soulbox_control::Limits;
use soulbox_engine::Error;

use crate::server::{Answer, Server, has_fields};

/// Seconds from the start to the end of the only sandbox.
async fn life(server: &Server, id: &str) -> f64 {
    let detail = server.get(&format!("/sandboxes/{id}")).await.json();
    let date = |field: &str| {
        chrono::DateTime::parse_from_rfc3339(detail[field].as_str().unwrap()).unwrap()
    };
    (date("endAt") - date("startedAt")).as_seconds_f64()
}

async fn create_with_key(server: &Server, key: &str, body: serde_json::Value) -> Answer {
    let request = Request::post("/v2/sandboxes")
        .header("x-api-key", &server.key)
        .header("idempotency-key", key)
        .body(Body::from(body.to_string()))
        .unwrap();
    server.send(request).await
}

#[tokio::test]
async fn v1_answers_what_every_client_reads() {
    let server = Server::new().await;
    let body = json!({
        "templateID": "host", "timeout": 60, "secure": true, "metadata": {"a": "b"},
        "envVars": {"A": "1"}, "allow_internet_access": true, "autoPause": false,
    });
    let answer = server.post("/sandboxes", body).await;
    assert_eq!(answer.status, 201);
    let sandbox = answer.json();
    has_fields(
        &sandbox,
        &["sandboxID", "templateID", "clientID", "envdVersion", "envdAccessToken"],
    );
    assert_eq!(sandbox["envdVersion"], "0.6.13");
    assert_eq!(sandbox["templateID"], "host");
    assert!(sandbox["domain"].is_null() && sandbox["trafficAccessToken"].is_null());
    let id: soulbox_model::SandboxId = sandbox["sandboxID"].as_str().unwrap().parse().unwrap();
    let guest = server.machine.guest(&id).unwrap();
    assert_eq!(guest.agent().env["A"], "1");
    assert_eq!(guest.agent().access_token.as_deref(), sandbox["envdAccessToken"].as_str());
}

#[tokio::test]
async fn v1_without_secure_is_open_and_lives_15_seconds() {
    let server = Server::new().await;
    let sandbox = server.post("/sandboxes", json!({"templateID": "host"})).await.json();
    assert!(sandbox.get("envdAccessToken").is_none(), "{sandbox}");
    let lived = life(&server, sandbox["sandboxID"].as_str().unwrap()).await;
    assert!((14.9..15.1).contains(&lived), "{lived}");
}

#[tokio::test]
async fn v2_is_always_secure_and_lives_300_seconds() {
    let server = Server::new().await;
    let body = json!({"templateID": "host", "secure": false});
    let sandbox = server.post("/v2/sandboxes", body).await.json();
    has_fields(&sandbox, &["envdAccessToken"]);
    let lived = life(&server, sandbox["sandboxID"].as_str().unwrap()).await;
    assert!((299.9..300.1).contains(&lived), "{lived}");
}

#[tokio::test]
async fn a_timeout_beyond_the_limit_is_refused() {
    let limits = Limits { max_timeout: Duration::from_secs(3600), ..Limits::default() };
    let server = Server::with(limits).await;
    for path in ["/sandboxes", "/v2/sandboxes"] {
        for timeout in [0, -1, 3601, i32::MIN, i32::MAX] {
            let body = json!({"templateID": "host", "timeout": timeout});
            assert_eq!(server.post(path, body).await.problem(400), "SB-INVALID", "{timeout}");
        }
        let body = json!({"templateID": "host", "timeout": 3600});
        assert_eq!(server.post(path, body).await.status, 201);
    }
    assert_eq!(server.machine.alive(), 2);
}

#[tokio::test]
async fn an_unknown_template_or_tag_is_a_404() {
    let server = Server::new().await;
    for name in ["nothing", "host:v1", "ns/host2", "xxxxxxxxxxxxxxxxxxxx"] {
        let answer = server.post("/sandboxes", json!({"templateID": name})).await;
        assert_eq!(answer.problem(404), "SB-NOT-FOUND", "{name}");
    }
    assert_eq!(server.machine.alive(), 0);
}

#[tokio::test]
async fn a_template_may_be_named_with_a_tag_and_in_capitals() {
    let server = Server::new().await;
    for name in ["host", " HOST ", "host:default", "host:latest"] {
        let answer = server.post("/sandboxes", json!({"templateID": name})).await;
        assert_eq!(answer.status, 201, "{name} {answer:?}");
        assert_eq!(answer.json()["templateID"], "host");
    }
}

#[tokio::test]
async fn a_template_that_is_not_built_yet_is_a_503_with_a_time() {
    let server = Server::new().await;
    let answer = server.post("/v2/sandboxes", json!({"templateID": "base"})).await;
    assert_eq!(answer.problem(503), "SB-UNAVAILABLE");
    assert_eq!(answer.header("should-retry"), Some("true"));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
}

#[tokio::test]
async fn a_repeat_with_the_same_key_is_the_same_sandbox() {
    let server = Server::new().await;
    let body = json!({"templateID": "host", "metadata": {"a": "b"}});
    let first = create_with_key(&server, "job-1", body.clone()).await;
    let again = create_with_key(&server, "job-1", body.clone()).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.json(), again.json());
    let other = create_with_key(&server, "job-2", body.clone()).await;
    assert_ne!(first.json()["sandboxID"], other.json()["sandboxID"]);
    assert_eq!(server.machine.alive(), 2);
}

#[tokio::test]
async fn a_key_with_another_request_is_a_422() {
    let server = Server::new().await;
    create_with_key(&server, "job-1", json!({"templateID": "host"})).await;
    let answer =
        create_with_key(&server, "job-1", json!({"templateID": "host", "timeout": 9})).await;
    answer.problem(422);
    assert_eq!(answer.json()["error_code"], "idempotency_request_mismatch");
    assert_eq!(server.machine.alive(), 1);
}

#[tokio::test]
async fn a_quota_is_a_429_that_no_client_repeats() {
    let server = Server::with(Limits { max_sandboxes: 1, ..Limits::default() }).await;
    server.sandbox(json!({})).await;
    let answer = server.post("/v2/sandboxes", json!({"templateID": "host"})).await;
    assert_eq!(answer.problem(429), "SB-LIMIT");
    assert_eq!(answer.header("should-retry"), Some("false"));
    assert_eq!(answer.header("retry-after"), None);
}

#[tokio::test]
async fn an_engine_failure_is_typed_and_leaves_nothing() {
    let server = Server::new().await;
    let refused = Error::stage("spawn")(std::io::Error::from_raw_os_error(1));
    server.machine.faults.creates.lock().push_back(refused);
    let answer = server.post("/sandboxes", json!({"templateID": "host"})).await;
    assert_eq!(answer.problem(500), "SB-CREATE");
    assert_eq!(answer.json()["error_code"], "sandbox_create_failed");
    assert_eq!(answer.header("should-retry"), Some("false"));
    assert_eq!(server.get("/v2/sandboxes").await.json(), json!([]));
    assert_eq!(server.machine.alive(), 0);
}

#[tokio::test]
async fn rules_of_requests_are_there_from_the_first_moment() {
    let server = Server::new().await;
    let rules = json!({
        "allow": ["GET a.example/v1/*"], "perMinute": {"a.example": 3},
        "bytes": {"*": {"sent": 5}}, "udp": ["192.0.2.1:9"],
    });
    let body = json!({
        "templateID": "host", "allow_internet_access": false,
        "network": {"allowOut": ["a.example"]}, "soulbox": {"requests": rules},
    });
    let id = server.post("/v2/sandboxes", body).await.json()["sandboxID"].clone();
    let id = id.as_str().unwrap();
    assert_eq!(server.get(&format!("/soulbox/v1/sandboxes/{id}/requests")).await.json(), rules);
    let detail = server.get(&format!("/sandboxes/{id}")).await.json();
    assert_eq!(detail["network"]["allowOut"], json!(["a.example"]));
    // The authority that opens connections is trusted before anything runs.
    let trusted = server.machine.guest(&id.parse().unwrap()).unwrap().agent().ca_bundle.clone();
    assert!(trusted.is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")));

    let none = json!({"templateID": "host", "soulbox": {"requests": {}}});
    let id = server.post("/v2/sandboxes", none).await.json()["sandboxID"].clone();
    let detail = server.get(&format!("/sandboxes/{}", id.as_str().unwrap())).await.json();
    assert!(detail.get("network").is_none(), "{detail}");
}

#[tokio::test]
async fn a_wrong_rule_of_requests_makes_no_sandbox() {
    let server = Server::new().await;
    let many: Vec<String> = (1..=101).map(|port| format!("192.0.2.1:1{port}")).collect();
    for (rules, field) in [
        (json!({"allow": ["anything"]}), "soulbox.requests.allow"),
        (json!({"perMinute": {"a.b": 0}}), "soulbox.requests.perMinute"),
        (json!({"bytes": {"a.b": {}}}), "soulbox.requests.bytes"),
        (json!({"udp": ["a.b:53"]}), "soulbox.requests.udp"),
        (json!({"udp": many}), "soulbox.requests.udp"),
        (json!({"per_minute": {"a.b": 1}}), "`per_minute`"),
    ] {
        let body = json!({"templateID": "host", "soulbox": {"requests": rules}});
        let answer = server.post("/v2/sandboxes", body).await;
        assert_eq!(answer.problem(400), "SB-INVALID");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(field), "{message}");
    }
    assert_eq!(server.machine.alive(), 0);
}
