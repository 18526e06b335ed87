use std::time::Duration;

use axum::body::Body;
use futures::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async, client_async,
    tungstenite::{Message, protocol::Role},
};

use crate::support::{SOON, Stage, gone, read, read_head};

async fn websocket_echo(stage: &Stage) {
    stage
        .raw(6080, |stream, _| async move {
            let mut socket = accept_async(stream).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() || message.is_binary() {
                    socket.send(message).await.unwrap();
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_websocket_echoes() {
    let stage = Stage::new().await;
    websocket_echo(&stage).await;
    let url = format!("ws://{}/websockify", stage.host(6080));
    let (mut socket, response) = client_async(url, stage.connect().await.0).await.unwrap();
    assert_eq!(response.status(), 101);
    for message in [Message::text("hello"), Message::binary(vec![9; 300_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    assert!(timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap().is_close());
}

#[tokio::test]
async fn a_websocket_over_http2_echoes() {
    let stage = Stage::new().await;
    websocket_echo(&stage).await;
    let mut sender = stage.h2().await;
    // The server's settings must have arrived before extended CONNECT may be used.
    let warm = Request::get(format!("http://{}/", stage.host(49983))).body(Body::empty()).unwrap();
    sender.send_request(warm).await.unwrap();
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://{}/websockify", stage.host(6080)))
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Body::empty())
        .unwrap();
    let mut response = timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    let message = Message::text("over h2");
    socket.send(message.clone()).await.unwrap();
    assert_eq!(timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap(), message);
}

#[tokio::test]
async fn an_http2_tunnel_to_a_server_without_websockets_is_refused() {
    let stage = Stage::new().await;
    stage.http(3000, axum::Router::new().fallback(|| async { "plain" })).await;
    let mut sender = stage.h2().await;
    let warm = Request::get(format!("http://{}/", stage.host(3000))).body(Body::empty()).unwrap();
    sender.send_request(warm).await.unwrap();
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://{}/", stage.host(3000)))
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .body(Body::empty())
        .unwrap();
    let response = timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), 502);
}

/// Reads all that the client sends, then says how much it was.
async fn counter(stage: &Stage) {
    stage
        .raw(3000, |mut stream, _| async move {
            let head = read_head(&mut stream).await.unwrap().to_ascii_lowercase();
            assert!(head.contains("upgrade: count") && head.contains("connection: upgrade"), "{head}");
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: count\r\nConnection: Upgrade\r\n\r\nearly")
                .await
                .unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.write_all(format!("got {}", all.len()).as_bytes()).await.unwrap();
        })
        .await;
}

fn upgrade_head(stage: &Stage, protocol: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\n\r\n",
        stage.host(3000)
    )
}

#[tokio::test]
async fn one_direction_may_end_before_the_other() {
    let stage = Stage::new().await;
    counter(&stage).await;
    let mut raw = stage.connect().await;
    raw.send(upgrade_head(&stage, "count")).await;
    let head = raw.until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: count") && head.contains("connection: upgrade"), "{head}");
    raw.until("early").await;
    raw.send(vec![1; 1_000_000]).await;
    raw.0.shutdown().await.unwrap();
    assert_eq!(raw.rest().await, "got 1000000");
}

#[tokio::test]
async fn bytes_sent_with_the_upgrade_request_are_not_lost() {
    let stage = Stage::new().await;
    counter(&stage).await;
    let mut raw = stage.connect().await;
    raw.send(upgrade_head(&stage, "count") + "12345").await;
    raw.until("early").await;
    raw.0.shutdown().await.unwrap();
    assert_eq!(raw.rest().await, "got 5");
}

#[tokio::test]
async fn a_tunnel_ends_with_either_side() {
    let stage = Stage::new().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    stage
        .raw(3000, move |mut stream, n| {
            let tell = tell.clone();
            async move {
                read_head(&mut stream).await;
                let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                if n == 0 {
                    gone(&mut stream).await;
                    tell.send(()).unwrap();
                }
            }
        })
        .await;
    let mut raw = stage.connect().await;
    raw.send(upgrade_head(&stage, "x")).await;
    raw.until("\r\n\r\n").await;
    drop(raw);
    timeout(Duration::from_secs(5), told.recv()).await.expect("client left unnoticed").unwrap();

    let mut raw = stage.connect().await;
    raw.send(upgrade_head(&stage, "x")).await;
    raw.until("\r\n\r\n").await;
    assert_eq!(raw.rest().await, "");
}

#[tokio::test]
async fn an_upgrade_that_the_server_declines_is_an_ordinary_answer() {
    let stage = Stage::new().await;
    stage
        .http(3000, axum::Router::new().fallback(|| async { (StatusCode::UPGRADE_REQUIRED, "no") }))
        .await;
    let request = stage
        .get(3000, "/")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Body::empty())
        .unwrap();
    assert_eq!(read(stage.request(request).await).await, (426, "no".into()));
}
