//! What every route shares.

use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{NOBODY, Server};

#[tokio::test]
async fn an_unknown_route_is_a_404_and_a_wrong_method_a_405() {
    let server = Server::new().await;
    for path in ["/", "/nothing", "/v9/sandboxes", "/sandboxes/", "//sandboxes", "/soulbox/v1/x"] {
        assert_eq!(server.get(path).await.problem(404), "SB-NOT-FOUND", "{path}");
    }
    for (method, path) in [
        ("DELETE", "/sandboxes"),
        ("PUT", "/v2/sandboxes"),
        ("PATCH", "/health"),
        ("GET", "/sandboxes/i00000000000000000000/timeout"),
        ("BREW", "/sandboxes"),
    ] {
        let answer = server.call(method, path, "").await;
        assert_eq!(answer.problem(405), "SB-INVALID");
        assert!(answer.header("allow").is_some(), "{method} {path}");
    }
}

#[tokio::test]
async fn health_and_readiness_need_no_key() {
    let server = Server::new().await;
    for path in ["/health", "/ready"] {
        assert_eq!(server.anonymous(Method::GET, path).await.status, 200, "{path}");
    }
    server.control.close(false).await;
    assert_eq!(server.anonymous(Method::GET, "/health").await.status, 200);
    assert_eq!(server.anonymous(Method::GET, "/ready").await.problem(503), "SB-UNAVAILABLE");
}

#[tokio::test]
async fn what_comes_later_is_a_501_everywhere() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    for (method, path) in [
        ("POST", format!("/sandboxes/{id}/pause")),
        ("POST", format!("/sandboxes/{id}/snapshots")),
        ("POST", format!("/sandboxes/{id}/fork")),
        ("GET", "/snapshots?limit=100".into()),
        ("POST", "/v3/templates".into()),
        ("POST", "/v2/templates".into()),
        ("DELETE", "/templates/base".into()),
        ("PATCH", "/v2/templates/base%3Adefault".into()),
        ("GET", "/templates/base/tags".into()),
        ("GET", "/templates/t/files/abc".into()),
        ("GET", "/volumes".into()),
        ("GET", "/nodes".into()),
    ] {
        for body in ["", "{}", "not json"] {
            let answer = server.call(method, &path, body).await;
            assert_eq!(answer.problem(501), "SB-NOT-IMPLEMENTED", "{method} {path}");
            assert_eq!(answer.header("should-retry"), Some("false"));
        }
    }
}

#[tokio::test]
async fn what_comes_later_is_a_404_of_what_does_not_exist() {
    let server = Server::new().await;
    for (method, path) in [
        ("POST", format!("/sandboxes/{NOBODY}/pause")),
        ("POST", format!("/sandboxes/{NOBODY}-6532622b/fork")),
        ("POST", format!("/sandboxes/{NOBODY}/snapshots")),
        ("DELETE", "/templates/ns%2Fname%3Atag".into()),
        ("DELETE", "/templates/ns/name:tag".into()),
        ("DELETE", "/templates/no-such-template".into()),
        ("DELETE", "/templates/Not%20a%20name".into()),
        ("PATCH", "/v2/templates/no-such-template".into()),
        ("GET", "/templates/ns/my/tags".into()),
    ] {
        assert_eq!(server.call(method, &path, "{}").await.problem(404), "SB-NOT-FOUND", "{path}");
    }
    assert_eq!(server.call("POST", "/sandboxes/a_b/pause", "").await.problem(400), "SB-INVALID");
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Server::new().await;
    let (one, two) = (server.get("/v2/sandboxes").await, server.get("/nothing").await);
    assert_ne!(one.header("x-request-id").unwrap(), two.header("x-request-id").unwrap());
    let request =
        |id: &str| Request::get("/health").header("x-request-id", id).body(Body::empty()).unwrap();
    assert_eq!(server.send(request("abc-1")).await.header("x-request-id"), Some("abc-1"));
    let forged = server.send(request("a b\"c")).await;
    assert_eq!(forged.header("x-request-id").map(str::len), Some(36));
}

#[tokio::test]
async fn no_answer_is_kept_on_the_way() {
    let server = Server::new().await;
    for path in ["/v2/sandboxes", "/api-keys", "/nothing"] {
        assert_eq!(server.get(path).await.header("cache-control"), Some("no-store"), "{path}");
    }
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_sees_the_413() {
    let server = Server::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(axum::serve(listener, server.router.clone()).into_future());

    let mut client = TcpStream::connect(address).await.unwrap();
    let body = vec![b' '; 17 << 20];
    let head = format!(
        "POST /sandboxes HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n",
        server.key,
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&body).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    serving.abort();
}

#[tokio::test]
async fn a_browser_may_call_from_any_page() {
    let server = Server::new().await;
    let preflight = Request::options("/v2/sandboxes")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-api-key,content-type,lang_version")
        .body(Body::empty())
        .unwrap();
    let answer = server.send(preflight).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert_eq!(allowed, "x-api-key,content-type,lang_version");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        assert!(answer.header("access-control-allow-methods").unwrap().contains(method));
    }

    let request = Request::get("/v2/sandboxes").header("origin", "https://app.example");
    let answer = server.send(request.body(Body::empty()).unwrap()).await;
    answer.problem(401);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert!(answer.header("access-control-expose-headers").unwrap().contains("x-next-token"));
}

#[tokio::test]
async fn headers_with_underscores_are_taken() {
    let server = Server::new().await;
    let request = Request::get("/v2/sandboxes")
        .header("x-api-key", &server.key)
        .header("lang_version", "3.11")
        .header("package_version", "2.63.0")
        .header("content-type", "application/json")
        .body(Body::empty())
        .unwrap();
    assert_eq!(server.send(request).await.status, 200);
}
