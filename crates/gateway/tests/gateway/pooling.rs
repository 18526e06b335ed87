use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::support::{SOON, Stage, gone, read_head};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn requests_in_a_row_share_a_connection() {
    let stage = Stage::new().await;
    stage.http(3000, Router::new().fallback(|| async { "app" })).await;
    for _ in 0..50 {
        assert_eq!(stage.text(3000, "/").await, (200, "app".into()));
    }
    assert_eq!(stage.world.dials.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let stage = Stage::new().await;
    let connections = stage
        .raw(3000, |mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
        })
        .await;
    for n in 1..=5 {
        let request = stage.get(3000, "/").method("POST").body(Body::from("body")).unwrap();
        let response = stage.request(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(connections.load(Ordering::SeqCst), n);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_never_sent_again() {
    let stage = Stage::new().await;
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    stage
        .raw(3000, move |mut stream, _| {
            let counted = Arc::clone(&counted);
            async move {
                // Serves one request; takes the next one and dies over it.
                for n in 0..2 {
                    if read_head(&mut stream).await.is_none() {
                        return;
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    if n == 0 {
                        stream.write_all(OK).await.unwrap();
                    }
                }
            }
        })
        .await;
    assert_eq!(stage.text(3000, "/").await.0, 200);
    let request = stage.get(3000, "/").method("POST").body(Body::empty()).unwrap();
    let response = stage.request(request).await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["should-retry"], "false", "nor may the client's SDK");
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

/// Serves one request of each connection; takes the next one and dies over it, or answers half of it.
async fn mortal(stage: &Stage, last: &'static [u8]) -> Arc<AtomicUsize> {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    stage
        .raw(3000, move |mut stream, _| {
            let counted = Arc::clone(&counted);
            async move {
                for answer in [OK, last] {
                    if read_head(&mut stream).await.is_none() {
                        return;
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(answer).await.unwrap();
                }
            }
        })
        .await;
    requests
}

#[tokio::test]
async fn what_may_be_repeated_survives_a_kept_connection_that_dies_over_it() {
    let stage = Stage::new().await;
    let requests = mortal(&stage, b"").await;
    assert_eq!(stage.text(3000, "/").await.0, 200);
    assert_eq!(stage.text(3000, "/").await, (200, "ok".into()));
    assert_eq!(requests.load(Ordering::SeqCst), 3);
    // With a body it is not, though its method were fit.
    let request = stage.get(3000, "/").method("PUT").body(Body::from("body")).unwrap();
    assert_eq!(stage.request(request).await.status(), 502);
    assert_eq!(requests.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn nothing_is_repeated_once_an_answer_began() {
    let stage = Stage::new().await;
    let requests = mortal(&stage, b"HTTP/1.1 200 OK\r\nContent-").await;
    assert_eq!(stage.text(3000, "/").await.0, 200);
    stage.text(3000, "/").await;
    assert!(requests.load(Ordering::SeqCst) <= 3);
}

#[tokio::test]
async fn a_server_that_dies_over_a_first_request_is_not_asked_again() {
    let stage = Stage::new().await;
    let connections =
        stage.raw(3000, |mut stream, _| async move { drop(read_head(&mut stream).await) }).await;
    assert_eq!(stage.text(3000, "/").await.0, 502);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_reaches_nobody() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, n| async move {
            read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            if n == 0 {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")
                    .await
                    .unwrap();
            }
            let mut byte = [0];
            let _ = stream.read(&mut byte).await;
        })
        .await;
    assert_eq!(stage.text(3000, "/a").await, (200, "ok".into()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stage.text(3000, "/b").await, (200, "ok".into()));
}

#[tokio::test]
async fn idle_connections_close_soon() {
    let stage = Stage::new().await;
    let (closed, mut told) = tokio::sync::mpsc::unbounded_channel();
    stage
        .raw(3000, move |mut stream, _| {
            let closed = closed.clone();
            async move {
                read_head(&mut stream).await;
                stream.write_all(OK).await.unwrap();
                assert!(read_head(&mut stream).await.is_none());
                closed.send(()).unwrap();
            }
        })
        .await;
    stage.text(3000, "/").await;
    timeout(Duration::from_secs(5), told.recv()).await.expect("kept too long").unwrap();
}

#[tokio::test]
async fn all_connections_close_when_the_gateway_stops() {
    let mut stage = Stage::new().await;
    // The agent's would stay open for longer than this waits.
    let agent = stage.agent_listener();
    let connection = tokio::spawn(async move {
        let (mut stream, _) = agent.accept().await.unwrap();
        let mut requests = 0;
        while read_head(&mut stream).await.is_some() {
            stream.write_all(OK).await.unwrap();
            requests += 1;
        }
        requests
    });
    for _ in 0..2 {
        assert_eq!(stage.text(49983, "/").await, (200, "ok".into()));
    }
    // A request in flight lets the gateway live on.
    let (tell, asked) = tokio::sync::oneshot::channel();
    let tell = Mutex::new(Some(tell));
    stage
        .raw(3000, move |mut stream, _| {
            let tell = tell.lock().unwrap().take().unwrap();
            async move {
                read_head(&mut stream).await;
                tell.send(()).unwrap();
                gone(&mut stream).await;
            }
        })
        .await;
    let mut busy = stage.connect().await;
    busy.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host(3000))).await;
    timeout(SOON, asked).await.unwrap().unwrap();
    stage.stop.take().unwrap().send(()).unwrap();
    assert_eq!(timeout(SOON / 2, connection).await.expect("kept").unwrap(), 2);
    assert!(!stage.server.is_finished());
}

#[tokio::test]
async fn a_kept_connection_serves_its_own_sandbox_only() {
    let stage = Stage::new().await;
    stage.http(3000, Router::new().fallback(|| async { "first" })).await;
    assert_eq!(stage.text(3000, "/").await.1, "first");
    let request = http::Request::builder()
        .uri("/")
        .header("host", format!("3000-{}.localhost", soulbox_model::SandboxId::random()))
        .body(Body::empty())
        .unwrap();
    assert_eq!(stage.request(request).await.status(), 502);
    assert_eq!(stage.text(49983, "/").await.1, "agent");
    assert_eq!(stage.text(3000, "/").await.1, "first");
}
