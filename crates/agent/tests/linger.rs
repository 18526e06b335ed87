//! A client that is refused before it has sent its body gets the answer, and keeps its connection.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use soulbox_agent::Settings;
use support::{Agent, PATIENCE, agent_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

fn guarded() -> Agent {
    agent_with(Settings { access_token: Some("secret".into()), ..Settings::default() })
}

/// Reads one answer that carries its length.
async fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
            });
            if length.is_none_or(|length: usize| body.len() >= length) {
                return text.into_owned();
            }
        }
        let mut piece = [0; 4096];
        let count = timeout(PATIENCE, stream.read(&mut piece)).await.unwrap().unwrap();
        assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..count]);
    }
}

#[tokio::test]
async fn a_body_that_comes_after_the_refusal_costs_neither_answer_nor_connection() {
    let agent = guarded();
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    let head = "POST /process.Process/List HTTP/1.1\r\nhost: agent\r\n\
        content-type: application/json\r\ncontent-length: 2000000\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 401"));
        for _ in 0..20 {
            stream.write_all(&[b' '; 100_000]).await.unwrap();
        }
        sleep(Duration::from_millis(50)).await;
    }
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 204"));
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_is_not_waited_for() {
    let agent = guarded();
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    let head =
        "POST /envs HTTP/1.1\r\nhost: agent\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut all = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut all)).await.unwrap().unwrap();
    assert!(all.starts_with("HTTP/1.1 401"), "{all}");
}
