//! Secrets over HTTP.

use serde_json::json;

use crate::server::{Answer, Server, has_fields};

const VALUE: &str = "s3cr3t-v4lu3";

fn silent(answer: &Answer) {
    let text = format!("{} {:?}", String::from_utf8_lossy(&answer.body), answer.headers);
    assert!(!text.contains(VALUE), "{text}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_secret_is_made_read_changed_and_deleted() {
    let server = Server::new().await;
    let body = json!({"name": " My-Key ", "value": VALUE, "metadata": {"a": "b"}, "new": [1]});
    let made = server.post("/secrets", body).await;
    assert_eq!(made.status, 201);
    silent(&made);
    let made = made.json();
    has_fields(
        &made,
        &["secretID", "name", "currentVersion", "metadata", "createdAt", "updatedAt"],
    );
    assert_eq!((made["name"].as_str(), made["currentVersion"].as_u64()), (Some("my-key"), Some(1)));
    let id = made["secretID"].as_str().unwrap();
    assert!(id.starts_with("sec_"));

    for which in [id, "my-key", "MY-key"] {
        let got = server.get(&format!("/secrets/{which}")).await;
        silent(&got);
        assert_eq!(got.json(), made);
    }
    let path = format!("/secrets/{id}");
    let changed = server.post(&path, json!({"value": format!("{VALUE}2")})).await;
    assert_eq!(changed.status, 200);
    silent(&changed);
    assert_eq!(changed.json()["currentVersion"], 2);
    assert_eq!(changed.json()["metadata"], json!({"a": "b"}));
    let changed = server.post(&path, json!({"value": VALUE, "metadata": {}})).await.json();
    assert_eq!((&changed["currentVersion"], &changed["metadata"]), (&json!(3), &json!({})));

    assert_eq!(
        server.post("/secrets", json!({"name": "MY-KEY", "value": "x"})).await.problem(409),
        "SB-CONFLICT"
    );
    assert_eq!(server.call("DELETE", &path, "").await.status, 204);
    for method in ["GET", "DELETE"] {
        server.call(method, &path, "").await.problem(404);
    }
    server.post(&path, json!({"value": VALUE})).await.problem(404);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::new().await;
    for n in 0..5 {
        let body = json!({"name": format!("s{n}"), "value": VALUE});
        assert_eq!(server.post("/secrets", body).await.status, 201);
    }
    let mut names = Vec::new();
    let mut path = "/secrets?limit=2".to_owned();
    loop {
        let page = server.get(&path).await;
        silent(&page);
        let items = page.json();
        names.extend(
            items.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()),
        );
        match page.header("x-next-token") {
            Some(next) => path = format!("/secrets?limit=2&nextToken={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["s0", "s1", "s2", "s3", "s4"]);
    for bad in ["limit=0", "limit=101", "limit=x", "nextToken=a%20b"] {
        server.get(&format!("/secrets?{bad}")).await.problem(400);
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_kept() {
    let server = Server::new().await;
    let big = "x".repeat(64 * 1024 + 1);
    let many: serde_json::Map<String, serde_json::Value> =
        (0..33).map(|n| (n.to_string(), json!("v"))).collect();
    for (body, field) in [
        (json!({"name": "", "value": VALUE}), "name"),
        (json!({"name": "a b", "value": VALUE}), "name"),
        (json!({"name": "x".repeat(129), "value": VALUE}), "name"),
        (json!({"name": "sec_x", "value": VALUE}), "name"),
        (json!({"name": "ok", "value": ""}), "value"),
        (json!({"name": "ok", "value": "a\u{0}b"}), "value"),
        (json!({"name": "ok", "value": big}), "value"),
        (json!({"name": "ok", "value": [VALUE]}), "value"),
        (json!({"name": "ok", "value": {VALUE: 1}}), "value"),
        (json!({"name": "ok"}), "value"),
        (json!({"value": VALUE}), "name"),
        (json!({"name": "ok", "value": VALUE, "metadata": {"k": 1}}), "metadata"),
        (json!({"name": "ok", "value": VALUE, "metadata": {"k": "v".repeat(1025)}}), "metadata"),
        (json!({"name": "ok", "value": VALUE, "metadata": many}), "metadata"),
    ] {
        let answer = server.post("/secrets", body).await;
        answer.problem(400);
        silent(&answer);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(field), "{field}: {message}");
    }
    for (body, field) in [
        (json!({"value": VALUE, "hosts": ["a b"]}), "hosts"),
        (json!({"value": VALUE, "hosts": ["*"]}), "hosts"),
        (json!({"value": VALUE, "hosts": ["10.0.0.1"]}), "hosts"),
        (json!({"value": VALUE, "hosts": vec!["a.b"; 33]}), "hosts"),
        (json!({"hosts": ["example.com"]}), "value"),
    ] {
        let answer = server.call("PUT", "/soulbox/v1/secrets/ok", &body.to_string()).await;
        answer.problem(400);
        silent(&answer);
        assert!(answer.json()["message"].as_str().unwrap().contains(field), "{field}: {answer:?}");
    }
    assert_eq!(server.get("/secrets").await.json(), json!([]));
}

#[tokio::test]
async fn hosts_are_bound_by_our_own_route() {
    let server = Server::new().await;
    let path = "/soulbox/v1/secrets/github";
    let put = async |body: serde_json::Value| server.call("PUT", path, &body.to_string()).await;
    let made = put(json!({"value": VALUE, "hosts": ["API.github.com", "*.ghe.example.com"]})).await;
    assert_eq!(made.status, 201);
    silent(&made);
    assert_eq!(made.json()["hosts"], json!(["api.github.com", "*.ghe.example.com"]));
    let changed = put(json!({"hosts": ["api.github.com"]})).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["currentVersion"]), (200, &json!(1)));
    let changed = put(json!({"value": "other"})).await.json();
    assert_eq!(changed["currentVersion"], 2);
    assert_eq!(changed["hosts"], json!(["api.github.com"]));
    assert_eq!(server.get(path).await.json(), changed);
    assert_eq!(server.get("/soulbox/v1/secrets").await.json(), json!([changed]));
    assert!(server.get("/secrets/github").await.json().get("hosts").is_none());
    server.call("PUT", "/soulbox/v1/secrets/sec_absent", r#"{"value":"x"}"#).await.problem(404);
}

#[tokio::test]
async fn an_environment_names_secrets_only_where_a_header_says_so() {
    let server = Server::new().await;
    server.post("/secrets", json!({"name": "token", "value": VALUE})).await;
    let create = async |header: Option<&str>, value: &str| {
        let body = json!({"templateID": "host", "timeout": 60, "envVars": {"V": value}});
        let mut request = http::Request::post("/sandboxes").header("x-api-key", &server.key);
        if let Some(header) = header {
            request = request.header("soulbox-env-secrets", header);
        }
        server.send(request.body(body.to_string().into()).unwrap()).await
    };
    let env_of = |answer: &Answer| {
        let id = answer.json()["sandboxID"].as_str().unwrap().parse().unwrap();
        server.machine.guest(&id).unwrap().agent().env["V"].clone()
    };
    assert_eq!(env_of(&create(None, "$TOKEN").await), "$TOKEN");
    let made = create(Some("resolve"), "Bearer $TOKEN").await;
    silent(&made);
    assert_eq!(env_of(&made), format!("Bearer {VALUE}"));
    let refused = create(Some("resolve"), "$ABSENT").await;
    refused.problem(400);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("envVars.V") && message.contains("absent"), "{message}");
    create(Some("yes"), "x").await.problem(400);
}
