use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request as AxumRequest, response::Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use soulbox_gateway::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    sync::{Mutex, mpsc},
    time::timeout,
};

use crate::support::{SOON, Stage, gone, read, read_head};

const MIB: usize = 1024 * 1024;

fn zeros(total: usize) -> Body {
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    let count = total / chunk.len();
    Body::from_stream(stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(chunk.clone()))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_mebibytes_each_way_in_bounded_memory() {
    let stage = Stage::new().await;
    let router = Router::new().fallback(|request: AxumRequest| async move {
        let mut total = 0;
        let mut body = request.into_body().into_data_stream();
        while let Some(chunk) = body.next().await {
            total += chunk.unwrap().len();
        }
        Response::builder().header("x-received", total).body(zeros(100 * MIB)).unwrap()
    });
    stage.http(3000, router).await;
    let before = resident();
    let request = stage.get(3000, "/").method("POST").body(zeros(100 * MIB)).unwrap();
    let mut response = stage.request_patiently(request).await;
    assert_eq!(response.headers()["x-received"], (100 * MIB).to_string());
    let (mut total, mut peak) = (0, 0);
    while let Some(frame) = response.body_mut().frame().await {
        total += frame.unwrap().into_data().unwrap().len();
        peak = peak.max(resident());
    }
    assert_eq!(total, 100 * MIB);
    assert!(peak < before + 32 * MIB, "grew from {before} to {peak} bytes");
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn a_sandbox_that_reads_nothing_stops_the_client_from_sending() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |stream, _| async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(stream);
        })
        .await;
    let mut raw = stage.connect().await;
    raw.send(format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000000\r\n\r\n",
        stage.host(3000)
    ))
    .await;
    let block = vec![0; 64 * 1024];
    let mut sent = 0;
    while timeout(Duration::from_millis(500), raw.0.write_all(&block)).await.is_ok() {
        sent += block.len();
        assert!(sent < 32 * MIB, "the gateway swallows a body that nobody reads");
    }
}

#[tokio::test]
async fn events_arrive_as_they_are_sent() {
    let stage = Stage::new().await;
    let (next, events) = mpsc::channel::<&'static str>(1);
    let events = Arc::new(Mutex::new(Some(events)));
    let router = Router::new().fallback(move || {
        let events = Arc::clone(&events);
        async move {
            let events = events.lock().await.take().unwrap();
            let stream = stream::unfold(events, |mut events| async {
                let event = events.recv().await?;
                Some((Ok::<_, std::io::Error>(format!("data: {event}\n\n")), events))
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from_stream(stream))
                .unwrap()
        }
    });
    stage.http(3000, router).await;
    let request = stage.get(3000, "/events").body(Body::empty()).unwrap();
    // The head comes before there is any event.
    let mut response = stage.request(request).await;
    for event in ["one", "two", "three"] {
        next.send(event).await.unwrap();
        let frame = timeout(SOON, response.body_mut().frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("data: {event}\n\n"));
    }
    drop(next);
    assert!(timeout(SOON, response.body_mut().frame()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_request_body_arrives_as_it_is_sent() {
    let stage = Stage::new().await;
    let (seen, mut heard) = mpsc::unbounded_channel();
    let router = Router::new().fallback(move |request: AxumRequest| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body().into_data_stream();
            while let Some(chunk) = body.next().await {
                seen.send(chunk.unwrap()).unwrap();
            }
            "done"
        }
    });
    stage.http(3000, router).await;
    let mut raw = stage.connect().await;
    raw.send(format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        stage.host(3000)
    ))
    .await;
    for part in ["first", "other"] {
        raw.send(format!("5\r\n{part}\r\n")).await;
        assert_eq!(timeout(SOON, heard.recv()).await.unwrap().unwrap(), part);
    }
    raw.send("0\r\n\r\n").await;
    assert!(raw.until("done").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_stream_that_the_sandbox_cuts_is_cut_for_the_client() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, _| async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        })
        .await;
    let request = stage.get(3000, "/").body(Body::empty()).unwrap();
    assert!(
        timeout(SOON, stage.request(request).await.into_body().collect()).await.unwrap().is_err()
    );

    let request =
        http::Request::get(format!("http://{}/", stage.host(3000))).body(Body::empty()).unwrap();
    let response = stage.h2().await.send_request(request).await.unwrap();
    assert!(timeout(SOON, response.into_body().collect()).await.unwrap().is_err());

    let raw = stage.exchange(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host(3000))).await;
    assert!(raw.ends_with("3\r\nabc\r\n"), "a cut stream must not end like a complete one: {raw}");
}

/// A server that says when it has a request, and when its client is gone.
async fn watched(stage: &Stage, answer: &'static [u8]) -> mpsc::UnboundedReceiver<()> {
    let (tell, told) = mpsc::unbounded_channel();
    stage
        .raw(3000, move |mut stream, _| {
            let tell = tell.clone();
            async move {
                read_head(&mut stream).await;
                tell.send(()).unwrap();
                stream.write_all(answer).await.unwrap();
                gone(&mut stream).await;
                tell.send(()).unwrap();
            }
        })
        .await;
    told
}

#[tokio::test]
async fn a_client_that_leaves_is_soon_gone_for_the_sandbox() {
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"] {
        let stage = Stage::new().await;
        let mut told = watched(&stage, answer).await;
        let mut raw = stage.connect().await;
        raw.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host(3000))).await;
        timeout(SOON, told.recv()).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(told.try_recv().is_err());
        drop(raw);
        timeout(Duration::from_secs(5), told.recv()).await.expect("still connected").unwrap();
    }
}

/// The clients' side of a connection is closed behind the request, as `nc -N` does it.
async fn half_closed(stage: &Stage, request: &str) -> crate::support::Raw {
    let mut raw = stage.connect().await;
    raw.send(request).await;
    raw.0.shutdown().await.unwrap();
    raw
}

#[tokio::test]
async fn a_client_that_closes_its_side_behind_a_request_gets_the_answer() {
    let stage = Stage::new().await;
    let slow = Router::new().fallback(|body: String| async move {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        format!("answer to {body}")
    });
    stage.http(3000, slow).await;
    let host = stage.host(3000);
    let get = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let post = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nbody");
    for request in [get, post] {
        let answer = half_closed(&stage, &request).await.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("answer to"), "{answer}");
    }
    let api = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(half_closed(&stage, api).await.rest().await.ends_with("api"));
}

#[tokio::test]
async fn a_half_closed_client_that_reads_slowly_gets_all_of_a_long_answer() {
    let stage = Stage::new().await;
    stage.http(3000, Router::new().fallback(|| async { Response::new(zeros(4 * MIB)) })).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host(3000));
    let mut raw = half_closed(&stage, &request).await;
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert!(raw.rest().await.len() > 4 * MIB);
}

#[tokio::test]
async fn a_half_closed_client_that_left_is_noticed_when_it_is_answered() {
    let stage = Stage::new().await;
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
    let mut told = watched(&stage, answer).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host(3000));
    drop(half_closed(&stage, &request).await);
    timeout(SOON, told.recv()).await.unwrap().unwrap();
    timeout(Duration::from_secs(5), told.recv()).await.expect("still connected").unwrap();
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_half_closed_request() {
    let stage = Stage::new().await;
    let mut told = watched(&stage, b"").await;
    let host = stage.host(3000);
    let request = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\nbody");
    let answer = half_closed(&stage, &request).await.rest().await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    timeout(SOON, told.recv()).await.unwrap().unwrap();
    timeout(Duration::from_secs(5), told.recv()).await.expect("still connected").unwrap();
}

#[tokio::test]
async fn an_http2_client_that_cancels_is_soon_gone_for_the_sandbox() {
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"] {
        let stage = Stage::new().await;
        let mut told = watched(&stage, answer).await;
        let mut sender = stage.h2().await;
        let request = http::Request::get(format!("http://{}/", stage.host(3000)))
            .body(Body::empty())
            .unwrap();
        let exchange = tokio::spawn(async move {
            let response = sender.send_request(request).await;
            // Keeps connection and stream until aborted.
            std::future::pending::<()>().await;
            drop((response, sender));
        });
        timeout(SOON, told.recv()).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(told.try_recv().is_err());
        exchange.abort();
        timeout(Duration::from_secs(5), told.recv()).await.expect("still connected").unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_upload_is_stuck_is_noticed() {
    let stage = Stage::new().await;
    let agent = stage.agent_listener();
    let mut raw = stage.connect().await;
    let host = stage.host(49983);
    raw.send(format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000000\r\n\r\n"))
        .await;
    let (stuck, _) = timeout(SOON, agent.accept()).await.unwrap().unwrap();
    let block = vec![0; 64 * 1024];
    while timeout(Duration::from_millis(300), raw.0.write_all(&block)).await.is_ok() {}
    // A reset; the end of the stream itself cannot arrive behind what nobody reads.
    raw.0.set_zero_linger().unwrap();
    drop(raw);
    // The agent learns it although it still reads nothing.
    let closed = async {
        while !stuck.ready(Interest::READABLE).await.unwrap().is_read_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(3), closed).await.expect("still connected");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_reaches_a_client_that_sends_first() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, _| async move {
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull";
            stream.write_all(answer).await.unwrap();
            gone(&mut stream).await;
        })
        .await;
    let mut raw = stage.connect().await;
    let total = 64 * MIB;
    raw.send(format!(
        "PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: {total}\r\n\r\n",
        stage.host(3000)
    ))
    .await;
    let block = vec![0; 64 * 1024];
    for _ in 0..total / block.len() {
        timeout(SOON, raw.0.write_all(&block)).await.unwrap().expect("reset while sending");
    }
    assert!(raw.until("full").await.starts_with("HTTP/1.1 507 "));
}

#[tokio::test]
async fn a_refusal_by_the_gateway_reaches_a_client_that_sends_first() {
    let stage = Stage::new().await;
    let mut raw = stage.connect().await;
    let gone = soulbox_model::SandboxId::random();
    let total = 16 * MIB;
    raw.send(format!(
        "PUT / HTTP/1.1\r\nHost: 80-{gone}.localhost\r\nContent-Length: {total}\r\n\r\n"
    ))
    .await;
    let block = vec![0; 64 * 1024];
    for _ in 0..total / block.len() {
        timeout(SOON, raw.0.write_all(&block)).await.unwrap().expect("reset while sending");
    }
    assert!(raw.until("}\n").await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn a_slow_reader_gets_all_of_it() {
    let stage = Stage::new().await;
    stage.http(3000, Router::new().fallback(|| async { Response::new(zeros(4 * MIB)) })).await;
    let mut raw = stage.connect().await;
    raw.send(format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", stage.host(3000)))
        .await;
    raw.until("\r\n\r\n").await;
    let mut total = 0;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let n = timeout(SOON, raw.0.read(&mut buffer)).await.unwrap().unwrap();
        if n == 0 {
            break;
        }
        total += n;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(total >= 4 * MIB, "{total}");
}

#[tokio::test]
async fn one_sandbox_has_a_bounded_number_of_requests() {
    let config = Config { max_requests_per_sandbox: 3, ..Config::default() };
    let stage = Stage::with(config, None).await;
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reached);
    stage
        .raw(3000, move |mut stream, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { gone(&mut stream).await }
        })
        .await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut raw = stage.connect().await;
        raw.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host(3000))).await;
        waiting.push(raw);
    }
    while reached.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let request = stage.get(3000, "/").body(Body::empty()).unwrap();
    let (status, body) = crate::support::json(stage.request(request).await).await;
    assert_eq!((status, &body["connectionLimit"]), (429, &3.into()));
    // Who closes its side at once with the request may wait for the answer.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(waiting);
    let mut status = 429;
    for _ in 0..200 {
        let request = stage.get(49983, "/").body(Body::empty()).unwrap();
        status = read(stage.request(request).await).await.0;
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(status, 200, "places are not given back");
}
