//! Tables of what no client should send.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;

use crate::server::{NOBODY, Server};

#[tokio::test]
async fn bodies() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let create = ["/sandboxes", "/v2/sandboxes"].map(str::to_owned);
    for path in create {
        for body in [
            "",
            " ",
            "{",
            "null",
            "[]",
            "\"base\"",
            "{}",
            "\u{0}",
            "{\"templateID\":}",
            r#"{"templateID":null}"#,
            r#"{"templateID":7}"#,
            r#"{"templateID":""}"#,
            r#"{"templateID":"a b"}"#,
            r#"{"templateID":"../etc"}"#,
            r#"{"templateID":"host","templateID":"host"}"#,
            r#"{"templateID":"host"} x"#,
            r#"{"templateID":"host","timeout":"60"}"#,
            r#"{"templateID":"host","timeout":1.5}"#,
            r#"{"templateID":"host","timeout":2147483648}"#,
            r#"{"templateID":"host","timeout":1e400}"#,
            r#"{"templateID":"host","autoPause":"yes"}"#,
            r#"{"templateID":"host","autoResume":true}"#,
            r#"{"templateID":"host","autoResume":{}}"#,
            r#"{"templateID":"host","metadata":[]}"#,
            r#"{"templateID":"host","metadata":{"a":1}}"#,
            r#"{"templateID":"host","metadata":{"a":null}}"#,
            r#"{"templateID":"host","envVars":{"":"x"}}"#,
            r#"{"templateID":"host","envVars":{"A=B":"x"}}"#,
            r#"{"templateID":"host","envVars":{"A":"x\u0000"}}"#,
            r#"{"templateID":"host","network":[]}"#,
            r#"{"templateID":"host","iam":3}"#,
            r#"{"templateID":"host","volumeMounts":{}}"#,
            r#"{"templateID":"host","volumeMounts":[{"name":"a"}]}"#,
        ] {
            let answer = server.call("POST", &path, body).await;
            assert_eq!(answer.problem(400), "SB-INVALID", "{path} {body}");
        }
    }
    for (tail, body) in [
        ("timeout", ""),
        ("timeout", "{}"),
        ("timeout", r#"{"timeout":null}"#),
        ("timeout", r#"{"timeout":"5"}"#),
        ("timeout", r#"{"timeout":99999999999}"#),
        ("refreshes", "[]"),
        ("refreshes", r#"{"duration":"1"}"#),
        ("connect", "{}"),
        ("connect", r#"{"timeout":true}"#),
        ("resume", r#"{"timeout":[]}"#),
    ] {
        let answer = server.call("POST", &format!("/sandboxes/{id}/{tail}"), body).await;
        answer.problem(400);
    }
    assert_eq!(server.machine.alive(), 1);
}

#[tokio::test]
async fn sizes() {
    let server = Server::new().await;
    let fill = |bytes: usize| {
        json!({"templateID": "host", "metadata": {"k": "v".repeat(bytes)}}).to_string()
    };
    assert_eq!(server.call("POST", "/sandboxes", &fill(60_000)).await.status, 201);
    server.call("POST", "/sandboxes", &fill(70_000)).await.problem(400);
    server.call("POST", "/sandboxes", &fill(1 << 20)).await.problem(413);
    server.call("POST", "/v2/sandboxes", &"x".repeat(3 << 20)).await.problem(413);
    assert_eq!(server.machine.alive(), 1);
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let server = Server::new().await;
    let chunk = Bytes::from(vec![b' '; 64 * 1024]);
    let endless = futures::stream::repeat_with(move || {
        Ok::<_, std::convert::Infallible>(Frame::data(chunk.clone()))
    });
    let request = Request::post("/sandboxes")
        .header("x-api-key", &server.key)
        .body(Body::new(StreamBody::new(endless)))
        .unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), server.send(request)).await.unwrap();
    answer.problem(413);
}

#[tokio::test]
async fn a_body_that_breaks_off_or_is_compressed() {
    let server = Server::new().await;
    let broken = futures::stream::iter([
        Ok(Frame::data(Bytes::from_static(b"{\"templateID\":\"ho"))),
        Err(std::io::Error::other("reset")),
    ]);
    let request = Request::post("/sandboxes")
        .header("x-api-key", &server.key)
        .body(Body::new(StreamBody::new(broken)))
        .unwrap();
    server.send(request).await.problem(400);
    let request = Request::post("/sandboxes")
        .header("x-api-key", &server.key)
        .header("content-encoding", "gzip")
        .body(Body::from("x"))
        .unwrap();
    server.send(request).await.problem(415);
}

#[tokio::test]
async fn queries() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let long = "x".repeat(300);
    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=1&limit=2",
        "limit=99999999999999999999",
        "order=up",
        "state=done",
        "state=running,done",
        "startedAfter=yesterday",
        "template=host:v1",
        "nextToken=x",
        "nextToken=%00",
        &format!("nextToken={long}"),
        "metadata=a",
        "metadata=a%3Db%3Dc",
        "metadata=%2525",
        "%",
        "a=%f",
        "a=%ff",
    ] {
        server.get(&format!("/v2/sandboxes?{query}")).await.problem(400);
    }
    for query in [
        "limit=1001",
        "limit=-1",
        "cursor=x",
        "cursor=-1",
        "cursor=9223372036854775807",
        "direction=up",
        "level=loud",
        "level=INFO",
        &format!("search={long}"),
    ] {
        server.get(&format!("/v2/sandboxes/{id}/logs?{query}")).await.problem(400);
    }
    for query in ["start=x", "start=1.5", "start=-1", "start=5&end=4", "end=9223372036854775807"] {
        server.get(&format!("/sandboxes/{id}/metrics?{query}")).await.problem(400);
    }
    server.get(&format!("/sandboxes/{id}/logs?start=x")).await.problem(400);
}

#[tokio::test]
async fn sandbox_ids() {
    let server = Server::new().await;
    let operations = [
        ("GET", "", ""),
        ("DELETE", "", ""),
        ("POST", "/timeout", r#"{"timeout":5}"#),
        ("POST", "/refreshes", ""),
        ("POST", "/connect", r#"{"timeout":5}"#),
        ("POST", "/resume", ""),
        ("GET", "/logs", ""),
    ];
    let long = "a".repeat(257);
    for (method, tail, body) in operations {
        for id in [NOBODY, "nonexistent", "a", "abc-def"] {
            let answer = server.call(method, &format!("/sandboxes/{id}{tail}"), body).await;
            assert_eq!(answer.problem(404), "SB-NOT-FOUND", "{method} {id}{tail}");
        }
        for id in ["ABC", "a_b", "%2e%2e%2fetc", "a-b-c", "a%00", "%ff", "%20", "a.b", &long] {
            let answer = server.call(method, &format!("/sandboxes/{id}{tail}"), body).await;
            assert_eq!(answer.problem(400), "SB-INVALID", "{method} {id}{tail}");
        }
    }
}

#[tokio::test]
async fn idempotency_keys() {
    let server = Server::new().await;
    let long = "a".repeat(256);
    for key in ["", "UPPER", "a b", "a_b", "é", &long] {
        let request = Request::post("/v2/sandboxes")
            .header("x-api-key", &server.key)
            .header("idempotency-key", key)
            .body(Body::from(r#"{"templateID":"host"}"#))
            .unwrap();
        server.send(request).await.problem(400);
    }
    assert_eq!(server.machine.alive(), 0);
}
