//! HTTP/2 as an attacker writes it: frame by frame.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::support::{Raw, SOON, Stage};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// One header field, literal, in neither table (RFC 7541 §6.2.2).
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127);
        out.push(u8::try_from(text.len()).unwrap());
        out.extend(text);
    }
    out
}

fn block(method: &str, authority: &str, more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = field(b":method", method.as_bytes());
    out.extend(field(b":scheme", b"http"));
    out.extend(field(b":authority", authority.as_bytes()));
    if !more.iter().any(|(name, _)| *name == b":path") {
        out.extend(field(b":path", b"/"));
    }
    for (name, value) in more {
        out.extend(field(name, value));
    }
    out
}

async fn open(stage: &Stage) -> Raw {
    let mut raw = stage.connect().await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.send(frame(SETTINGS, 0, 0, &[])).await;
    raw
}

/// The kinds of frames that arrive until the connection ends or is quiet, with their stream and payload.
async fn frames(raw: &mut Raw) -> Vec<(u8, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut buffer = Vec::new();
    let mut chunk = [0; 16384];
    loop {
        let read = tokio::io::AsyncReadExt::read(&mut raw.0, &mut chunk);
        match timeout(Duration::from_secs(1), read).await {
            Ok(Ok(n)) if n > 0 => buffer.extend(&chunk[..n]),
            _ => return all,
        }
        while buffer.len() >= 9 {
            let length =
                usize::from(buffer[0]) << 16 | usize::from(buffer[1]) << 8 | usize::from(buffer[2]);
            if buffer.len() < 9 + length {
                break;
            }
            let stream = u32::from_be_bytes([buffer[5], buffer[6], buffer[7], buffer[8]]);
            all.push((buffer[3], stream, buffer[9..9 + length].to_vec()));
            buffer.drain(..9 + length);
        }
    }
}

async fn counting(stage: &Stage) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let router = Router::new().fallback(move |_: axum::body::Bytes| {
        count.fetch_add(1, Ordering::SeqCst);
        async { "ok" }
    });
    stage.http(3000, router).await;
    seen
}

#[tokio::test]
async fn the_plain_case_works() {
    let stage = Stage::new().await;
    let seen = counting(&stage).await;
    let mut raw = open(&stage).await;
    let block = block("GET", &stage.host(3000), &[]);
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await;
    let (mut got, wanted) = (Vec::new(), (DATA, 1, b"ok".to_vec()));
    let deadline = Instant::now() + SOON;
    while !got.contains(&wanted) {
        assert!(Instant::now() < deadline, "{got:?}");
        got.extend(frames(&mut raw).await);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_could_be_read_differently_in_http1_never_reaches_the_sandbox() {
    let stage = Stage::new().await;
    let seen = counting(&stage).await;
    let host = stage.host(3000);
    let attacks: &[&[(&[u8], &[u8])]] = &[
        &[(b"transfer-encoding", b"chunked")],
        &[(b"connection", b"keep-alive")],
        &[(b"x", b"a\r\nx-injected: 1")],
        &[(b"x", b"a\nb")],
        &[(b"x\r\ny", b"z")],
        &[(b"x: y", b"z")],
        &[(b"X-Upper", b"z")],
        &[(b"content-length", b"5")],
        &[(b"content-length", b"0"), (b"content-length", b"5")],
        &[(b":path", b"/ HTTP/1.1\r\nhost: evil\r\n\r\nGET /x")],
        &[(b":path", b"/a b")],
        &[(b":path", b"")],
        &[(b":path", b"no-slash")],
        &[(b":authority", b"localhost")],
        &[(b"host", b"localhost")],
        &[(b":method", b"GET")],
        &[(b":unknown", b"x")],
        &[(b"e2b-sandbox-id", b"iaaaaaaaaaaaaaaaaaaaa"), (b"e2b-sandbox-port", b"3000")],
        &[(b"host", host.as_bytes()), (b"host", host.as_bytes())],
    ];
    for attack in attacks {
        let mut raw = open(&stage).await;
        let block = block("POST", &host, attack);
        raw.send(frame(HEADERS, END_HEADERS, 1, &block)).await;
        let _ = raw.0.write_all(&frame(DATA, END_STREAM, 1, b"x")).await;
        let got = frames(&mut raw).await;
        assert!(
            !got.iter().any(|(kind, _, data)| *kind == DATA && data == b"ok"),
            "{attack:?}: {got:?}"
        );
    }
    let evil_method = block("G T /x HTTP/1.1\r\n", &host, &[]);
    let mut raw = open(&stage).await;
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &evil_method)).await;
    frames(&mut raw).await;
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn streams_opened_and_reset_at_speed_end_the_connection() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |stream, _| async move {
            std::future::pending::<()>().await;
            drop(stream)
        })
        .await;
    let mut raw = open(&stage).await;
    let block = block("GET", &stage.host(3000), &[]);
    let mut sent = 0;
    for n in 0..50_000 {
        let stream = 2 * n + 1;
        let mut pair = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block);
        pair.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        if raw.0.write_all(&pair).await.is_err() {
            break;
        }
        sent += 1;
    }
    let got = frames(&mut raw).await;
    let ended = sent < 50_000 || got.iter().any(|(kind, ..)| *kind == GOAWAY);
    let dials = stage.world.dials.load(Ordering::SeqCst);
    assert!(ended || dials < 5_000, "{sent} streams, {dials} dials, {} frames", got.len());
    let answer = timeout(SOON, stage.text(49983, "/")).await.expect("others starve");
    assert_eq!(answer, (200, "agent".into()));
}

#[tokio::test]
async fn endless_headers_end_the_connection() {
    let stage = Stage::new().await;
    let mut raw = open(&stage).await;
    raw.send(frame(HEADERS, END_STREAM, 1, &block("GET", &stage.host(3000), &[]))).await;
    let filler: Vec<u8> = (0..100).flat_map(|_| field(b"x-filler", &[b'a'; 100])).collect();
    let mut sent = 0;
    while timeout(SOON, raw.0.write_all(&frame(CONTINUATION, 0, 1, &filler)))
        .await
        .is_ok_and(|r| r.is_ok())
    {
        sent += filler.len();
        assert!(sent < 64 << 20, "swallows headers without end");
    }
}

#[tokio::test]
async fn floods_of_small_frames_do_not_stop_others() {
    let stage = Stage::new().await;
    let mut raw = open(&stage).await;
    let flood: Vec<u8> = (0..1000)
        .flat_map(|_| [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])].concat())
        .collect();
    let flooding = tokio::spawn(async move {
        // Reads nothing of the answers.
        for _ in 0..500 {
            if timeout(Duration::from_millis(500), raw.0.write_all(&flood)).await.is_err() {
                return;
            }
        }
    });
    for _ in 0..20 {
        let answer = timeout(SOON, stage.text(49983, "/")).await.expect("others starve");
        assert_eq!(answer.0, 200);
    }
    flooding.await.unwrap();
}
