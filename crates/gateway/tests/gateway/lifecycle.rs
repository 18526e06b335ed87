use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use soulbox_gateway::Config;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::Notify,
    time::{Instant, timeout},
};

use crate::support::{SOON, Stage, gone, read_head};

fn impatient() -> Config {
    Config {
        header_timeout: Duration::from_millis(600),
        idle_timeout: Duration::from_millis(2500),
        drain: Duration::from_secs(1),
        ..Config::default()
    }
}

#[tokio::test]
async fn a_client_that_sends_headers_slowly_is_cut() {
    let stage = Stage::with(impatient(), None).await;
    let started = Instant::now();
    let mut raw = stage.connect().await;
    for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".iter().cycle() {
        if raw.0.write_all(&[*byte]).await.is_err() || started.elapsed() > Duration::from_secs(5) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = started.elapsed();
    assert!((600..4000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_silent_client_is_cut() {
    let stage = Stage::with(impatient(), None).await;
    let mut raw = stage.connect().await;
    assert_eq!(timeout(Duration::from_secs(4), raw.rest()).await.expect("still open"), "");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout_and_ends_at_its_own() {
    let stage = Stage::with(impatient(), None).await;
    let mut raw = stage.connect().await;
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    raw.send(request).await;
    raw.until("api").await;
    tokio::time::sleep(Duration::from_millis(1700)).await;
    raw.send(request).await;
    raw.until("api").await;
    let started = Instant::now();
    assert_eq!(timeout(Duration::from_secs(6), raw.rest()).await.expect("still open"), "");
    assert!(started.elapsed() > Duration::from_millis(2000));
}

#[tokio::test]
async fn a_request_that_takes_long_is_not_idle() {
    let stage = Stage::with(impatient(), None).await;
    let slow = Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        "slow"
    });
    stage.http(3000, slow).await;
    assert_eq!(stage.text(3000, "/").await, (200, "slow".into()));
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight_and_takes_nothing_new() {
    let mut stage = Stage::new().await;
    let asked = Arc::new(Notify::new());
    let asks = Arc::clone(&asked);
    let slow = Router::new().fallback(async move || {
        asks.notify_one();
        tokio::time::sleep(Duration::from_millis(500)).await;
        "finished"
    });
    stage.http(3000, slow).await;
    let mut idle = stage.connect().await;
    idle.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    idle.until("api").await;
    let silent = stage.connect().await;
    let mut busy = stage.connect().await;
    busy.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host(3000))).await;
    asked.notified().await;
    let started = Instant::now();
    stage.stop.take().unwrap().send(()).unwrap();
    assert!(busy.rest().await.ends_with("finished"));
    assert_eq!(idle.rest().await, "");
    timeout(SOON, &mut stage.server).await.unwrap().unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(TcpStream::connect(stage.address).await.is_err());
    drop(silent);
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end() {
    let mut stage = Stage::with(impatient(), None).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    stage
        .raw(3000, move |mut stream, _| {
            let tell = tell.clone();
            async move {
                let head = read_head(&mut stream).await.unwrap();
                let answer: &[u8] = if head.contains("pgrade") {
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
                } else {
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
                };
                stream.write_all(answer).await.unwrap();
                gone(&mut stream).await;
                tell.send(()).unwrap();
            }
        })
        .await;
    let mut stream = stage.connect().await;
    stream.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host(3000))).await;
    stream.until("1\r\nx\r\n").await;
    let mut tunnel = stage.connect().await;
    let host = stage.host(3000);
    tunnel
        .send(format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
        ))
        .await;
    tunnel.until("\r\n\r\n").await;
    let mut h2 = stage.h2().await;
    let request = http::Request::get(format!("http://{host}/")).body(Body::empty()).unwrap();
    let open = h2.send_request(request).await.unwrap();

    let started = Instant::now();
    stage.stop.take().unwrap().send(()).unwrap();
    timeout(SOON, &mut stage.server).await.unwrap().unwrap().unwrap();
    assert!((900..6000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert_eq!(stream.rest().await, "");
    assert_eq!(tunnel.rest().await, "");
    for _ in 0..3 {
        timeout(SOON, told.recv()).await.expect("a sandbox still has its connection").unwrap();
    }
    drop(open);
}

#[tokio::test]
async fn more_clients_than_allowed_wait_for_a_place() {
    let config = Config { max_connections: 16, ..Config::default() };
    let stage = Stage::with(config, None).await;
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut raw = stage.connect().await;
        raw.send(request).await;
        raw.until("api").await;
        clients.push(raw);
    }
    let mut late = stage.connect().await;
    late.send(request).await;
    let mut byte = [0];
    let early = timeout(Duration::from_millis(300), late.0.peek(&mut byte)).await;
    assert!(early.is_err(), "served beyond the limit");
    clients.pop();
    late.until("api").await;
}
