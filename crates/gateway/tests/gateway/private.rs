//! Private ports and masked hosts, from outside.

use std::time::Duration;

use axum::{Router, body::Body, extract::Request as AxumRequest};
use http::Request;
use soulbox_gateway::{Config, PortAccess};
use tokio::time::Instant;

use crate::support::{Stage, json, read};

const TOKEN: &str = "7f3c9a0000000000000000000000000000000000000000000000000000000001";

/// Answers with what arrived.
async fn echo(stage: &Stage) {
    let router = Router::new().fallback(|request: AxumRequest| async move {
        let mut lines: Vec<String> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
            .collect();
        lines.sort();
        format!("{} {}\n{}", request.method(), request.uri(), lines.join("\n"))
    });
    stage.http(3000, router).await;
}

fn set(stage: &Stage, token: Option<&str>, mask: Option<&str>) {
    let mask = mask.map(|mask| mask.parse().unwrap());
    let access = PortAccess::new(token.map(str::to_owned), mask);
    *stage.world.access.lock().unwrap() = Some(access);
}

#[tokio::test]
async fn without_the_token_nothing_reaches_a_private_port() {
    let stage = Stage::new().await;
    echo(&stage).await;
    set(&stage, Some(TOKEN), None);
    let missing = stage.get(3000, "/").body(Body::empty()).unwrap();
    let (status, body) = json(stage.request(missing).await).await;
    assert_eq!(status, 403);
    assert_eq!(
        body,
        serde_json::json!({
            "sandboxId": stage.id.to_string(),
            "code": 403,
            "soulbox": {"code": "SB-PERMISSION", "retryable": false},
            "message": "Sandbox is secured with traffic access token. Token header \
                        'e2b-traffic-access-token' is missing",
        })
    );
    let wrong = stage.get(3000, "/").header("e2b-traffic-access-token", "x").body(Body::empty());
    let (status, body) = json(stage.request(wrong.unwrap()).await).await;
    assert_eq!(status, 403);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .ends_with("Provided token in header 'e2b-traffic-access-token' is invalid")
    );
    assert_eq!(stage.world.dials.load(std::sync::atomic::Ordering::SeqCst), 0);

    let right = stage.get(3000, "/a?b=c").header("E2B-Traffic-Access-Token", TOKEN);
    let (status, seen) = read(stage.request(right.body(Body::empty()).unwrap()).await).await;
    assert_eq!(status, 200);
    assert!(seen.starts_with("GET /a?b=c\n") && !seen.contains(TOKEN), "{seen}");
    // The agent looks after its own port.
    assert_eq!(stage.text(49983, "/").await, (200, "agent".into()));
    // A closed port is told to nobody without the token.
    assert_eq!(stage.text(3001, "/").await.0, 403);
}

#[tokio::test]
async fn a_person_at_a_browser_gets_a_page_and_with_a_pass_gets_in() {
    let stage = Stage::new().await;
    echo(&stage).await;
    set(&stage, Some(TOKEN), None);
    let visit = |path: &str| stage.get(3000, path).header("sec-fetch-mode", "navigate");
    let answer = stage.request(visit("/").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(read(answer).await.1.contains("This port is private"));

    let path = format!("/app?e2b-traffic-access-token={TOKEN}&tab=2");
    let answer = stage.request(visit(&path).body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["location"], "/app?tab=2");
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Lax"), "{cookie}");
    assert!(!cookie.to_lowercase().contains("domain"), "{cookie}");
    let pair = cookie.split_once(';').unwrap().0;
    let next = visit("/app?tab=2").header("cookie", format!("own=1; {pair}"));
    let (status, seen) = read(stage.request(next.body(Body::empty()).unwrap()).await).await;
    assert_eq!(status, 200);
    assert!(seen.contains("cookie: own=1") && !seen.contains("soulbox-traffic"), "{seen}");

    let sibling = stage.get(3001, "/").header("cookie", pair).body(Body::empty()).unwrap();
    assert_eq!(read(stage.request(sibling).await).await.0, 403);
    let script =
        stage.get(3000, "/").header("cookie", pair).header("origin", "http://evil.example");
    let (status, body) = json(stage.request(script.body(Body::empty()).unwrap()).await).await;
    assert_eq!(status, 403);
    assert!(body["message"].as_str().unwrap().contains("another origin"), "{body}");
}

#[tokio::test]
async fn a_web_socket_of_another_site_is_refused() {
    let stage = Stage::new().await;
    echo(&stage).await;
    set(&stage, Some(TOKEN), None);
    let path = format!("/?e2b-traffic-access-token={TOKEN}");
    let visit = stage.get(3000, &path).header("sec-fetch-mode", "navigate");
    let answer = stage.request(visit.body(Body::empty()).unwrap()).await;
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    let pair = cookie.split_once(';').unwrap().0;
    let open = |origin: &str| {
        stage
            .get(3000, "/socket")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("cookie", pair)
            .header("origin", origin)
            .body(Body::empty())
            .unwrap()
    };
    let sibling = format!("http://3000-{}.localhost", "ioooooooooo0123456789");
    for origin in ["http://evil.example", &sibling, "null"] {
        assert_eq!(stage.request(open(origin)).await.status(), 403, "{origin}");
    }
    // Our echo does not upgrade, but it is asked.
    let own = format!("http://{}", stage.host(3000));
    assert_eq!(stage.request(open(&own)).await.status(), 200);
}

#[tokio::test]
async fn guesses_take_as_long_as_each_other() {
    let stage = Stage::new().await;
    set(&stage, Some(TOKEN), None);
    let close = format!("{}f", &TOKEN[..63]);
    let far = "0".repeat(64);
    let mut sender = {
        let stream = tokio::net::TcpStream::connect(stage.address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender
    };
    // Other work on the machine may move a median, but not the same way time after time.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..600 {
            for (which, guess) in [&close, &far].into_iter().enumerate() {
                let request = stage.get(3000, "/").header("e2b-traffic-access-token", guess);
                let started = Instant::now();
                sender.ready().await.unwrap();
                let request = request.body(Body::empty()).unwrap();
                let answer = sender.send_request(request).await.unwrap();
                assert_eq!(read(answer).await.0, 403);
                if round >= 100 {
                    times[which].push(started.elapsed());
                }
            }
        }
        let [close, far] = times.map(|mut all| {
            all.sort();
            all[all.len() / 2]
        });
        if close.abs_diff(far) < Duration::from_micros(100) {
            return;
        }
        seen.push((close, far));
    }
    panic!("apart each time: {seen:?}");
}

#[tokio::test]
async fn the_host_is_masked_for_ports_alone() {
    let stage = Stage::new().await;
    echo(&stage).await;
    let seen_host = |seen: &str| {
        let line =
            |name: &str| seen.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        (line("host: "), line("x-forwarded-host: "))
    };
    let host = stage.host(3000);
    assert_eq!(seen_host(&stage.text(3000, "/").await.1), (Some(host.clone()), None));
    set(&stage, None, Some("localhost:${PORT}"));
    let spoofed = stage.get(3000, "/").header("x-forwarded-host", "evil.example");
    let (_, seen) = read(stage.request(spoofed.body(Body::empty()).unwrap()).await).await;
    assert_eq!(seen_host(&seen), (Some("localhost:3000".into()), Some(host.clone())));
    let request = Request::get(format!("http://{host}/")).body(Body::empty()).unwrap();
    let (_, seen) = read(stage.h2().await.send_request(request).await.unwrap()).await;
    assert_eq!(seen_host(&seen), (Some("localhost:3000".into()), Some(host)));
}

#[tokio::test]
async fn one_client_has_so_many_connections_and_requests() {
    let config = Config {
        limit_loopback: true,
        max_connections_per_client: 3,
        max_request_rate_per_client: 5,
        ..Config::default()
    };
    let stage = Stage::with(config, None).await;
    echo(&stage).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host(3000));
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut raw = stage.connect().await;
        raw.send(&request).await;
        assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
        held.push(raw);
    }
    let mut more = stage.connect().await;
    let _ = tokio::io::AsyncWriteExt::write_all(&mut more.0, request.as_bytes()).await;
    assert_eq!(more.rest().await, "");
    drop(held.pop());

    let mut too_fast = 0;
    let mut raw = held.pop().unwrap();
    for _ in 0..30 {
        raw.send(&request).await;
        let head = raw.until("\r\n\r\n").await.to_lowercase();
        if head.starts_with("http/1.1 429 ") {
            assert!(head.contains("retry-after: 1"), "{head}");
            too_fast += 1;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        tokio::io::AsyncReadExt::read_exact(&mut raw.0, &mut body).await.unwrap();
    }
    assert!((15..=28).contains(&too_fast), "{too_fast}");
}

#[tokio::test]
async fn one_sandbox_takes_so_many_requests_a_second() {
    let config = Config { max_request_rate_per_sandbox: 5, ..Config::default() };
    let stage = Stage::with(config, None).await;
    echo(&stage).await;
    let mut refused = 0;
    for _ in 0..25 {
        if stage.text(3000, "/").await.0 == 429 {
            refused += 1;
        }
    }
    assert!((5..=16).contains(&refused), "{refused}");
    let health = Request::get("/health").header("host", "localhost").body(Body::empty()).unwrap();
    assert_eq!(read(stage.request(health).await).await.0, 200);
}
