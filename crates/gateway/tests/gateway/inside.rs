//! Ports whose programs speak TLS themselves.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use soulbox_gateway::PortAccess;
use soulbox_model::Port;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

use crate::support::{SOON, Stage, json};

/// Certificates for another name, signed by nobody.
fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["elsewhere.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn https(stage: &Stage, ports: &[u16]) {
    let ports = ports.iter().map(|port| Port::new(*port).unwrap()).collect();
    *stage.world.access.lock().unwrap() = Some(PortAccess::default().with_https(ports));
}

/// Answers each request with what it came with, over one TLS connection.
async fn serve(stage: &Stage, port: u16) -> Arc<std::sync::atomic::AtomicUsize> {
    let acceptor = acceptor();
    stage
        .raw(port, move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    head.push(byte);
                    if head.ends_with(b"\r\n\r\n") {
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        stream.write_all(&head).await.unwrap();
                        stream.flush().await.unwrap();
                        head.clear();
                    }
                }
            }
        })
        .await
}

#[tokio::test]
async fn a_program_that_speaks_tls_is_spoken_to_in_tls() {
    let stage = Stage::new().await;
    let connections = serve(&stage, 8443).await;
    https(&stage, &[443, 8443]);
    for _ in 0..3 {
        let (status, body) = stage.text(8443, "/path").await;
        assert_eq!(status, 200);
        assert!(body.starts_with("GET /path HTTP/1.1\r\n"), "{body}");
        assert!(body.contains(&stage.host(8443)), "{body}");
    }
    assert_eq!(
        connections.load(std::sync::atomic::Ordering::SeqCst),
        1,
        "kept open between requests"
    );
}

#[tokio::test]
async fn a_program_without_tls_is_named_in_the_error() {
    let stage = Stage::new().await;
    stage.http(8443, axum::Router::new()).await;
    https(&stage, &[8443]);
    let request = stage.get(8443, "/").body(axum::body::Body::empty()).unwrap();
    let response = stage.request(request).await;
    assert_eq!(response.headers()["should-retry"], "false");
    let (status, body) = json(response).await;
    assert_eq!(status, 502);
    assert_eq!(body["message"], "The sandbox did not answer in TLS");
    let (status, body) = stage.text(443, "/").await;
    assert_eq!(status, 502);
    assert!(body.contains("port is not open"), "{body}");
}

#[tokio::test]
async fn a_websocket_goes_through_tls() {
    let stage = Stage::new().await;
    let acceptor = acceptor();
    stage
        .raw(8443, move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() {
                        socket.send(message).await.unwrap();
                    }
                }
            }
        })
        .await;
    https(&stage, &[8443]);
    let url = format!("ws://{}/", stage.host(8443));
    let (mut socket, response) = client_async(url, stage.connect().await.0).await.unwrap();
    assert_eq!(response.status(), 101);
    socket.send(Message::text("hello")).await.unwrap();
    let back = timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(back, Message::text("hello"));
}
