use std::{sync::atomic::Ordering, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use soulbox_model::SandboxId;
use tokio::{io::AsyncWriteExt, time::Instant};

use crate::support::{Stage, json, read, read_head};

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0";

#[tokio::test]
async fn an_unknown_sandbox_is_502_at_once() {
    let stage = Stage::new().await;
    let mut least = Duration::MAX;
    for name in [SandboxId::random().to_string(), "short".to_owned()].iter().cycle().take(6) {
        let started = Instant::now();
        let request = Request::builder()
            .uri("/")
            .header("host", format!("3000-{name}.localhost"))
            .body(Body::empty())
            .unwrap();
        let response = stage.request(request).await;
        assert_eq!(response.headers()["content-type"], "application/json; charset=utf-8");
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        let (status, body) = json(response).await;
        assert_eq!(status, 502);
        assert_eq!(
            body,
            serde_json::json!({
                "sandboxId": name, "message": "The sandbox was not found", "code": 502,
                "soulbox": {"code": "SB-NOT-FOUND", "retryable": false},
            })
        );
        least = least.min(started.elapsed());
    }
    assert!(least < Duration::from_millis(500), "{least:?} at least");
}

#[tokio::test]
async fn a_closed_port_is_502_with_the_port() {
    let stage = Stage::new().await;
    let request = stage.get(8080, "/").body(Body::empty()).unwrap();
    let (status, body) = json(stage.request(request).await).await;
    assert_eq!(status, 502);
    assert_eq!(
        body,
        serde_json::json!({
            "sandboxId": stage.id, "port": 8080, "code": 502,
            "soulbox": {"code": "SB-NOT-FOUND", "retryable": false},
            "message": "The sandbox is running but port is not open",
        })
    );
}

#[tokio::test]
async fn a_server_that_starts_a_moment_later_is_reached() {
    let stage = Stage::new().await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        stage.http(8080, Router::new().fallback(|| async { "late" })).await;
    };
    let (answer, ()) = tokio::join!(stage.text(8080, "/"), later);
    assert_eq!(answer, (200, "late".into()));
}

#[tokio::test]
async fn a_lost_connection_says_how_often_it_was_tried() {
    let stage = Stage::new().await;
    stage.world.broken.lock().unwrap().push(8080);
    let request = stage.get(8080, "/").body(Body::empty()).unwrap();
    let (status, body) = json(stage.request(request).await).await;
    let dials = stage.world.dials.load(Ordering::SeqCst);
    assert_eq!((status, dials), (502, 5));
    assert_eq!(
        body,
        serde_json::json!({
            "sandboxId": stage.id, "port": 8080, "code": 502,
            "soulbox": {"code": "SB-CONN-LOST", "retryable": true, "attempts": 4},
            "message": "The sandbox is running but could not be reached; reconnect attempts: 4",
        })
    );

    // What was sent once was not tried again.
    let silent = stage.raw(3000, async |mut stream, _| drop(read_head(&mut stream).await)).await;
    let post = Request::post("/").header("host", stage.host(3000)).body(Body::from("once"));
    let (_, body) = json(stage.request(post.unwrap()).await).await;
    assert_eq!(silent.load(Ordering::SeqCst), 1);
    assert_eq!(body["soulbox"]["attempts"], 0);
    assert_eq!(body["message"], "The sandbox closed the connection before it answered");

    // One that was kept had ended, and so does the next.
    let fickle = stage
        .raw(3001, async |mut stream, n| {
            read_head(&mut stream).await;
            if n == 0 {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                read_head(&mut stream).await;
            }
        })
        .await;
    assert_eq!(stage.text(3001, "/").await, (200, "ok".into()));
    let request = stage.get(3001, "/").body(Body::empty()).unwrap();
    let (_, body) = json(stage.request(request).await).await;
    assert_eq!(fickle.load(Ordering::SeqCst), 2);
    assert_eq!(body["soulbox"]["attempts"], 1, "{body}");
}

#[tokio::test]
async fn people_get_a_page_and_programs_get_json() {
    let stage = Stage::new().await;
    let get = async |host: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().uri("/x?y=%3Cscript%3E").header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        stage.request(request.body(Body::empty()).unwrap()).await
    };
    let gone = format!("3000-{}.localhost", SandboxId::random());
    let response = get(&gone, &[("user-agent", BROWSER), ("accept", "text/html,*/*")]).await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert!(response.headers().contains_key("content-security-policy"));
    let page = read(response).await.1;
    assert!(page.starts_with("<!doctype html>") && page.contains(&gone[5..26]), "{page}");
    for outside in ["http://", "https://", "<script", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    let page = read(get(&stage.host(8080), &[("sec-fetch-mode", "navigate")]).await).await.1;
    assert!(page.contains("Nothing listens on this port") && page.contains("8080"), "{page}");

    for headers in [
        &[("user-agent", BROWSER), ("sec-fetch-mode", "cors")][..],
        &[("user-agent", BROWSER), ("accept", "application/json")],
        &[("user-agent", BROWSER), ("x-requested-with", "XMLHttpRequest")],
        &[("user-agent", "e2b-python-sdk/2.45.1"), ("accept", "*/*")],
        &[],
    ] {
        assert_eq!(json(get(&gone, headers).await).await.1["code"], 502, "{headers:?}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_502_and_spoils_nothing() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, n| async move {
            read_head(&mut stream).await;
            let answer: &[u8] = match n {
                0 => b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
                1 => b"HTTP/1.1 200 OK\r\nX: a\r\n b: folded\r\n\r\n",
                2 => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
                3 => {
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
                }
                4 => b"",
                5 => &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5],
                6 => b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            let _ = stream.write_all(answer).await;
        })
        .await;
    for n in 0..7 {
        let request = stage.get(3000, "/").body(Body::empty()).unwrap();
        let (status, body) = json(stage.request(request).await).await;
        assert_eq!(status, 502, "{n}: {body}");
        assert_eq!(body["port"], 3000, "{n}");
        let message = body["message"].as_str().unwrap();
        assert!(!message.contains("not found") && !message.contains("not open"), "{n}: {message}");
    }
    assert_eq!(stage.text(3000, "/").await, (200, "ok".into()));
}

#[tokio::test]
async fn an_endless_answer_head_is_refused() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, _| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while stream
                .write_all(b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
                .await
                .is_ok()
            {}
        })
        .await;
    assert_eq!(stage.text(3000, "/").await.0, 502);
}

#[tokio::test]
async fn a_sandbox_that_dies_before_answering_was_not_found() {
    let stage = std::sync::Arc::new(Stage::new().await);
    let killed = std::sync::Arc::clone(&stage);
    stage
        .raw(3000, move |mut stream, _| {
            let killed = std::sync::Arc::clone(&killed);
            async move {
                read_head(&mut stream).await;
                killed.kill();
            }
        })
        .await;
    let request = stage.get(3000, "/").body(Body::empty()).unwrap();
    let (status, body) = json(stage.request(request).await).await;
    assert_eq!((status, &body["message"]), (502, &"The sandbox was not found".into()));
}
