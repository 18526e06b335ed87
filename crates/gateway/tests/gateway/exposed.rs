//! Sandboxes that expose some ports alone.

use std::sync::atomic::Ordering;

use axum::{Router, body::Body};
use http::{Method, Request, StatusCode};
use soulbox_gateway::PortAccess;
use soulbox_model::Port;
use tokio::time::timeout;

use crate::support::{SOON, Stage, json, read};

const TOKEN: &str = "7f3c9a0000000000000000000000000000000000000000000000000000000001";

fn ports(numbers: &[u16]) -> Vec<Port> {
    numbers.iter().map(|number| Port::new(*number).unwrap()).collect()
}

fn expose(stage: &Stage, access: PortAccess, numbers: &[u16]) {
    *stage.world.access.lock().unwrap() = Some(access.with_exposed(Some(ports(numbers))));
}

/// Something listens at 8000 and 8001, and 8000 alone is exposed.
async fn stage() -> Stage {
    let stage = Stage::new().await;
    for (port, text) in [(8000, "shop"), (8001, "hidden")] {
        stage.http(port, Router::new().fallback(move || async move { text })).await;
    }
    expose(&stage, PortAccess::default(), &[8000]);
    stage
}

fn dials(stage: &Stage) -> usize {
    stage.world.dials.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_listener_on_another_port_is_not_reached() {
    let stage = stage().await;
    let request = stage.get(8001, "/").body(Body::empty()).unwrap();
    let (status, body) = json(stage.request(request).await).await;
    assert_eq!(status, 403);
    assert_eq!(
        body,
        serde_json::json!({
            "sandboxId": stage.id.to_string(),
            "port": 8001,
            "exposedPorts": [8000],
            "code": 403,
            "soulbox": {"code": "SB-PERMISSION", "retryable": false},
            "message": "The sandbox is running but port 8001 is not exposed; exposed are 8000",
        })
    );
    assert_eq!(dials(&stage), 0);
    assert_eq!(stage.text(8000, "/").await, (200, "shop".into()));
    assert_eq!(stage.text(49983, "/").await, (200, "agent".into()));

    expose(&stage, PortAccess::default(), &[]);
    let (status, body) = stage.text(8000, "/").await;
    assert!(status == 403 && body.contains("this sandbox exposes none"), "{body}");
    assert_eq!(stage.text(49983, "/").await, (200, "agent".into()));
    // As every client that knows nothing of this has them.
    *stage.world.access.lock().unwrap() = Some(PortAccess::default());
    assert_eq!(stage.text(8001, "/").await, (200, "hidden".into()));
}

#[tokio::test]
async fn a_person_at_a_browser_gets_a_page_that_names_what_is_exposed() {
    let stage = stage().await;
    let many: Vec<u16> = (9000..9020).collect();
    expose(&stage, PortAccess::default(), &many);
    let visit = stage.get(8001, "/").header("sec-fetch-mode", "navigate");
    let answer = stage.request(visit.body(Body::empty()).unwrap()).await;
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let (status, page) = read(answer).await;
    assert_eq!(status, 403);
    assert!(page.contains("This port is not exposed") && page.contains("8001"), "{page}");
    assert!(page.contains("9000, 9001") && page.contains("9015 and 4 more"), "{page}");
}

#[tokio::test]
async fn no_spelling_of_a_port_leads_around_the_list() {
    let stage = stage().await;
    let id = stage.id.to_string();
    let host = |label: &str| format!("Host: {label}.localhost\r\n");
    let by_headers = |port: &str| {
        format!("Host: localhost\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: {port}\r\n")
    };
    let shop = format!("Host: 8000-{id}.localhost\r\n");
    let cases = [
        host(&format!("8001-{id}")),
        host(&format!("08001-{id}")),
        host(&format!("008001-{id}")),
        host(&format!("8001-{}", id.to_uppercase())),
        host(&format!("8001-{id}-6532622b")),
        host(&format!("8001-{id}-8000")),
        host(&format!("8000-8001-{id}")),
        host(&format!("73537-{id}")),
        format!("Host: 8001-{id}.localhost.:8000\r\n"),
        format!("Host: 8001-{id}.any.name\r\n"),
        format!("Host: 8000-{id}.localhost, 8001-{id}.localhost\r\n"),
        by_headers("8001"),
        by_headers("08001"),
        by_headers("+8001"),
        by_headers("8001 "),
        by_headers("\t8001"),
        by_headers("8001.0"),
        by_headers("0x1f41"),
        by_headers("8000,8001"),
        by_headers("73537"),
        format!("{shop}E2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: 8001\r\n"),
        format!("{}E2b-Sandbox-Port: 8000\r\n", by_headers("8001")),
        format!("{shop}Host: 8001-{id}.localhost\r\n"),
    ];
    for headers in cases {
        let request = format!("GET / HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        let answer = stage.exchange(request).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "403", "502"].contains(&status), "{headers}: {answer}");
        assert!(!answer.contains("hidden"), "{headers}: {answer}");
    }
    let line =
        format!("GET http://8001-{id}.localhost/ HTTP/1.1\r\n{shop}Connection: close\r\n\r\n");
    assert!(stage.exchange(line).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(dials(&stage), 0);

    // What says something else beside the destination changes nothing of it.
    for more in ["X-Forwarded-Host: 8001-x.localhost", "X-Forwarded-Port: 8001", "E2b-Port: 8001"] {
        let request = format!("GET / HTTP/1.1\r\n{shop}{more}\r\nConnection: close\r\n\r\n");
        assert!(stage.exchange(request).await.ends_with("shop"), "{more}");
    }
    // Each request on a connection is looked at, not the first alone.
    let first = format!("GET / HTTP/1.1\r\n{shop}\r\n");
    let second =
        format!("GET / HTTP/1.1\r\nHost: 8001-{id}.localhost\r\nConnection: close\r\n\r\n");
    let both = stage.exchange(first + &second).await;
    assert!(both.contains("shop") && both.contains("403") && !both.contains("hidden"), "{both}");
}

#[tokio::test]
async fn no_protocol_leads_around_the_list() {
    let stage = stage().await;
    let host = stage.host(8001);
    let mut h2 = stage.h2().await;
    let uri = format!("http://{host}/");
    let tunnel = Request::builder()
        .method(Method::CONNECT)
        .uri(&uri)
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13");
    let call = Request::post(format!("http://{host}/pkg.Service/Method"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for request in [Request::get(&uri), call, tunnel] {
        let request = request.body(Body::empty()).unwrap();
        let what = format!("{request:?}");
        let answer = timeout(SOON, h2.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{what}");
    }
    for protocol in ["websocket", "h2c", "tcp"] {
        let upgrade = stage
            .get(8001, "/")
            .header("connection", "Upgrade")
            .header("upgrade", protocol)
            .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
            .header("sec-websocket-version", "13");
        let answer = stage.request(upgrade.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{protocol}");
    }
    // A name of its own leads to a port like any other.
    stage.name("shop.example", 8001);
    let named = Request::get("/").header("host", "shop.example").body(Body::empty()).unwrap();
    assert_eq!(stage.request(named).await.status(), StatusCode::FORBIDDEN);
    // To speak TLS to a port is not to expose it.
    expose(&stage, PortAccess::default().with_https(ports(&[8001])), &[8000]);
    assert_eq!(stage.text(8001, "/").await.0, 403);
    assert_eq!(dials(&stage), 0);
}

#[tokio::test]
async fn what_a_private_sandbox_exposes_is_told_to_who_may_come() {
    let stage = stage().await;
    expose(&stage, PortAccess::new(Some(TOKEN.to_owned()), None), &[8000]);
    let (status, body) = stage.text(8001, "/").await;
    assert!(status == 403 && !body.contains("8000") && body.contains("is missing"), "{body}");
    let bearer = stage.get(8001, "/").header("e2b-traffic-access-token", TOKEN);
    let (status, body) = json(stage.request(bearer.body(Body::empty()).unwrap()).await).await;
    assert_eq!((status, &body["exposedPorts"]), (403, &serde_json::json!([8000])));
    // Nor is anybody let in for later.
    let path = format!("/?e2b-traffic-access-token={TOKEN}");
    let visit = stage.get(8001, &path).header("sec-fetch-mode", "navigate");
    let answer = stage.request(visit.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(!answer.headers().contains_key("set-cookie"));
    assert_eq!(dials(&stage), 0);
}
