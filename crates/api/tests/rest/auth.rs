use http::{Method, Request};
use serde_json::json;

use crate::server::Server;

fn with(headers: &[(&str, &str)], path: &str) -> Request<axum::body::Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(axum::body::Body::empty()).unwrap()
}

#[tokio::test]
async fn a_request_without_a_good_key_is_a_401() {
    let server = Server::new().await;
    let unknown = format!("e2b_{}", "0".repeat(40));
    let upper = server.key.to_uppercase();
    let longer = format!("{}00", server.key);
    for headers in [
        vec![],
        vec![("x-api-key", "")],
        vec![("x-api-key", "secret")],
        vec![("x-api-key", "e2b_")],
        vec![("x-api-key", unknown.as_str())],
        vec![("x-api-key", upper.as_str())],
        vec![("x-api-key", longer.as_str())],
        vec![("x-api-key", server.key.as_str()), ("x-api-key", unknown.as_str())],
        vec![("x-api-key", "é")],
        vec![("authorization", "Basic dXNlcjo=")],
    ] {
        for path in ["/v2/sandboxes", "/templates", "/api-keys", "/soulbox/v1/info", "/volumes"] {
            let answer = server.send(with(&headers, path)).await;
            assert_eq!(answer.problem(401), "SB-AUTH", "{headers:?}");
            assert!(!String::from_utf8_lossy(&answer.body).contains(&server.key));
        }
    }
}

#[tokio::test]
async fn the_key_is_asked_for_before_anything_else() {
    let server = Server::new().await;
    for path in ["/sandboxes/../x", "/sandboxes/UPPER", "/v2/sandboxes?limit=x", "/api-keys"] {
        let answer = server.anonymous(Method::GET, path).await;
        assert!([401, 404].contains(&answer.status.as_u16()), "{path} {answer:?}");
    }
    server.anonymous(Method::POST, "/sandboxes").await.problem(401);
}

#[tokio::test]
async fn the_api_key_wins_over_a_stale_bearer() {
    let server = Server::new().await;
    let stale = [("x-api-key", server.key.as_str()), ("authorization", "Bearer sk_e2b_00")];
    assert_eq!(server.send(with(&stale, "/v2/sandboxes")).await.status, 200);
    assert_eq!(server.send(with(&stale, "/templates")).await.status, 200);
}

#[tokio::test]
async fn a_bearer_token_opens_what_it_opens_in_the_original() {
    let server = Server::new().await;
    let token = format!("Bearer {}", server.key);
    let headers = [("authorization", token.as_str())];
    for path in ["/teams", "/templates", "/v2/templates", "/soulbox/v1/info"] {
        assert_eq!(server.send(with(&headers, path)).await.status, 200, "{path}");
    }
    for path in ["/sandboxes", "/v2/sandboxes"] {
        server.send(with(&headers, path)).await.problem(401);
    }
}

#[tokio::test]
async fn one_teams_key_does_not_reach_anothers_sandbox() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let stranger = server.control.get(soulbox_model::TeamId::random(), &id).await;
    assert_eq!(stranger.unwrap_err().http_status(), 404);
}
