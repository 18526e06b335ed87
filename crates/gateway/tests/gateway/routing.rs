use axum::{Router, body::Body, extract::Request as AxumRequest};
use http::{Request, Version};
use soulbox_wire::signature::{Claim, Operation, sign};

use crate::support::{Stage, json, read};

async fn echo(request: AxumRequest) -> String {
    let mut lines = vec![format!("{} {}", request.method(), request.uri())];
    let mut headers: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    lines.extend(headers);
    lines.join("\n")
}

#[tokio::test]
async fn by_host_by_headers_or_both() {
    let stage = Stage::new().await;
    stage.http(3000, Router::new().fallback(|| async { "app" })).await;
    let id = stage.id.as_str();
    for (host, headers, expected) in [
        ("localhost", None, "api"),
        (&*stage.host(3000), None, "app"),
        (&*stage.host(49983), None, "agent"),
        ("localhost", Some((id, "3000")), "app"),
        ("any.name.at.all", Some((id, "49983")), "agent"),
        (&*stage.host(3000), Some((id, "3000")), "app"),
        ("localhost", Some((&*format!("{id}-6532622b"), "3000")), "app"),
    ] {
        let mut request = Request::builder().uri("/health").header("host", host);
        if let Some((id, port)) = headers {
            request = request.header("E2B-Sandbox-ID", id).header("e2b-sandbox-port", port);
        }
        let response = stage.request(request.body(Body::empty()).unwrap()).await;
        assert_eq!(read(response).await, (200, expected.into()), "{host} {headers:?}");
    }
}

#[tokio::test]
async fn what_has_two_meanings_is_400_json() {
    let stage = Stage::new().await;
    stage.http(3000, Router::new().fallback(|| async { "app" })).await;
    let (id, host) = (stage.id.as_str(), stage.host(3000));
    let cases = [
        format!("Host: {host}\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: 3001\r\n"),
        format!("Host: {host}\r\nE2b-Sandbox-Id: iother\r\nE2b-Sandbox-Port: 3000\r\n"),
        format!("Host: {host}\r\nHost: {host}\r\n"),
        format!("Host: {host}\r\nHost: localhost\r\n"),
        format!("Host: x\r\nE2b-Sandbox-Id: {id}\r\n"),
        "Host: x\r\nE2b-Sandbox-Port: 3000\r\n".to_owned(),
        format!(
            "Host: x\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: 3000\r\n"
        ),
        format!("Host: x\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: 3000, 3001\r\n"),
        format!("Host: x\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: 65536\r\n"),
        format!("Host: x\r\nE2b-Sandbox-Id: ../{id}\r\nE2b-Sandbox-Port: 3000\r\n"),
        format!("Host: user@{host}\r\n"),
        "Host: \r\n".to_owned(),
        String::new(),
    ];
    for headers in cases {
        let answer =
            stage.exchange(format!("GET / HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], 400, "{headers}");
        assert!(body["message"].is_string(), "{headers}");
    }
    // An absolute request line that agrees is fine, one that does not is not.
    let line = |uri_host: &str| {
        format!("GET http://{uri_host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };
    assert!(stage.exchange(line(&host)).await.ends_with("app"));
    assert!(stage.exchange(line("localhost")).await.starts_with("HTTP/1.1 400 "));
    let connect = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert!(stage.exchange(connect).await.starts_with("HTTP/1.1 405 "));
}

#[tokio::test]
async fn the_sandbox_gets_the_request_as_it_was_but_for_the_hop() {
    let stage = Stage::new().await;
    stage.http(3000, Router::new().fallback(echo)).await;
    let request = stage
        .get(3000, "/a%20b/../c?x=1&y=%2F")
        .method("DELETE")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=6.6.6.6")
        .header("proxy-authorization", "Basic x")
        .header("x-access-token", "kept")
        .header("package_version", "underscore")
        .body(Body::empty())
        .unwrap();
    let (status, seen) = read(stage.request(request).await).await;
    let host = stage.host(3000);
    assert_eq!(status, 200);
    assert_eq!(
        seen,
        format!(
            "DELETE /a%20b/../c?x=1&y=%2F\nhost: {host}\npackage_version: underscore\nx-access-token: kept"
        )
    );
}

#[tokio::test]
async fn http2_becomes_http1_with_one_host_and_one_cookie() {
    let stage = Stage::new().await;
    stage.http(3000, Router::new().fallback(echo)).await;
    let mut sender = stage.h2().await;
    let request = Request::builder()
        .uri(format!("http://{}/p", stage.host(3000)))
        .version(Version::HTTP_2)
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Body::empty())
        .unwrap();
    let (status, seen) = read(sender.send_request(request).await.unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(seen, format!("GET /p\ncookie: a=1; b=2\nhost: {}", stage.host(3000)));
}

#[tokio::test]
async fn old_http_and_odd_forms() {
    let stage = Stage::new().await;
    stage.http(3000, Router::new().fallback(echo)).await;
    let (id, host) = (&stage.id, stage.host(3000));
    let answer = stage
        .exchange(format!(
            "GET /x HTTP/1.0\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: 3000\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.0 200 ") && answer.contains("GET /x"), "{answer}");
    let answer = stage
        .exchange(format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
        .await;
    assert!(answer.contains("OPTIONS *"), "{answer}");
    let answer = stage
        .exchange(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("content-length: "), "{answer}");
}

#[tokio::test]
async fn routes_for_the_server_alone_are_404_whatever_the_method() {
    let stage = Stage::new().await;
    for (method, path) in
        [("POST", "/init"), ("GET", "/init"), ("POST", "//%69nit/"), ("PUT", "/upgrade")]
    {
        let request = stage.get(49983, path).method(method).body(Body::empty()).unwrap();
        let (status, body) = json(stage.request(request).await).await;
        assert_eq!((status, &body["code"]), (404, &404.into()), "{method} {path}");
        assert_eq!(body["path"], path);
        assert!(body.get("sandboxId").is_none());
    }
    // A user's own server may have such a route.
    stage.http(3000, Router::new().fallback(|| async { "mine" })).await;
    assert_eq!(stage.text(3000, "/init").await, (200, "mine".into()));
}

#[tokio::test]
async fn a_configured_domain_is_the_only_one_beside_localhost() {
    let config = soulbox_gateway::Config {
        domain: Some("Box.Example:8443".into()),
        ..soulbox_gateway::Config::default()
    };
    let stage = Stage::with(config, None).await;
    stage.http(3000, Router::new().fallback(|| async { "app" })).await;
    let get = async |host: String| {
        let request = Request::builder().uri("/").header("host", host).body(Body::empty()).unwrap();
        read(stage.request(request).await).await
    };
    assert_eq!(get(format!("3000-{}.box.example", stage.id)).await, (200, "app".into()));
    assert_eq!(get(format!("3000-{}.localhost", stage.id)).await, (200, "app".into()));
    let (status, body) = get(format!("3000-{}.other.example", stage.id)).await;
    assert_eq!(status, 400);
    assert!(body.contains("box.example"), "{body}");
}

#[tokio::test]
async fn an_access_token_can_stand_for_the_sandbox() {
    let stage = Stage::new().await;
    stage.token("t1");
    let get = async |path: &str, token: &str| {
        let request = Request::builder()
            .uri(path)
            .header("host", "localhost")
            .header("x-access-token", token)
            .body(Body::empty())
            .unwrap();
        read(stage.request(request).await).await
    };
    assert_eq!(get("/files?path=/x", "t1").await, (200, "agent".into()));
    assert_eq!(get("/health", "t1").await, (200, "agent".into()));
    assert_eq!(get("/process.Process/List", "t1").await, (200, "agent".into()));
    assert_eq!(get("/filesystem.Filesystem/Stat", "t1").await, (200, "agent".into()));
    assert_eq!(get("/health", "t2").await.0, 502);
    assert_eq!(get("/process.Process/List", "t2").await.0, 502);
}

#[tokio::test]
async fn a_signed_link_leads_to_the_sandbox_whose_token_made_it() {
    let stage = Stage::new().await;
    stage.token("t1");
    let claim = Claim { path: "/x", operation: Operation::Read, username: "", expiration: None };
    let signature = |token: &str| sign(token, &claim).replace('+', "%2B");
    let ask = async |method: &str, query: &str| {
        let request = Request::builder().method(method).uri(format!("/files?{query}"));
        let request = request.header("host", "localhost").body(Body::empty()).unwrap();
        read(stage.request(request).await).await
    };
    let good = format!("path=/x&signature={}", signature("t1"));
    assert_eq!(ask("GET", &good).await, (200, "agent".into()));
    for (method, query, text) in [
        ("POST", good.clone(), "invalid signature"),
        ("GET", good.replace("/x", "/y"), "invalid signature"),
        ("GET", format!("path=/x&signature={}", signature("t2")), "invalid signature"),
        ("GET", "path=/x".to_owned(), "missing signature"),
        ("POST", "path=/x".to_owned(), "missing signature"),
    ] {
        let (status, body) = ask(method, &query).await;
        assert_eq!(status, 401, "{method} {query}");
        assert!(body.contains(text), "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["code"], 401);
    }
}

#[tokio::test]
async fn the_api_answers_before_a_body_and_the_client_may_finish_it() {
    let stage = Stage::new().await;
    let mut raw = stage.connect().await;
    raw.send("POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    raw.until("api has no such route").await;
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        raw.send("3\r\nabc\r\n").await;
    }
    raw.send("0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let rest = raw.rest().await;
    assert!(rest.starts_with("HTTP/1.1 200") && rest.ends_with("api"), "{rest}");
}
