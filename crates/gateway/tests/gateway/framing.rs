//! One request in is one request out: nothing a client sends can be read differently behind the gateway.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request as AxumRequest,
};
use tokio::io::AsyncWriteExt;

use crate::support::{Stage, read, read_head};

/// Notes every request that arrives, with its body.
async fn recorder(stage: &Stage) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let router = Router::new().fallback(move |request: AxumRequest| {
        let notes = Arc::clone(&notes);
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let body = to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
            notes.lock().unwrap().push(format!("{line} {}", String::from_utf8_lossy(&body)));
            "ok"
        }
    });
    stage.http(3000, router).await;
    seen
}

#[tokio::test]
async fn smuggling_attempts_arrive_as_one_request_or_not_at_all() {
    let stage = Stage::new().await;
    let seen = recorder(&stage).await;
    let host = stage.host(3000);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = smuggled.len();
    let chunk = format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
    let attacks = [
        // CL.TE and TE.CL, in both orders.
        format!("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunk}"),
        // Encodings that one parser sees and another does not.
        format!(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 4\r\n\r\n{chunk}"
        ),
        format!("Transfer-Encoding: identity, chunked, x\r\nContent-Length: 4\r\n\r\n{chunk}"),
        format!("Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\n{chunk}"),
        format!("Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n{chunk}"),
        format!("Transfer-Encoding:\x0bchunked\r\nContent-Length: 4\r\n\r\n{chunk}"),
        format!("Foo: bar\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{smuggled}"),
        format!("Foo: bar\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{smuggled}"),
        // Lengths that can be read in two ways.
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!("Content-Length: 0, {length}\r\n\r\n{smuggled}"),
        format!("Content-Length: +0\r\n\r\n{smuggled}"),
        format!("Content-Length: 0x0\r\n\r\n{smuggled}"),
        format!("Content-Length: -1\r\n\r\n{smuggled}"),
        format!("Content-Length: 18446744073709551616\r\n\r\n{smuggled}"),
        // Chunk sizes and extensions.
        format!("Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff0\r\n\r\n{smuggled}"),
        // Hop-by-hop games with the framing.
        format!("Connection: content-length\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!("Connection: transfer-encoding, host\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
    ];
    for attack in attacks {
        seen.lock().unwrap().clear();
        let answer = stage
            .exchange(format!(
                "POST /one HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{attack}"
            ))
            .await;
        let seen = seen.lock().unwrap().clone();
        assert!(
            answer.matches("HTTP/1.1 ").count() <= 1 && seen.len() <= 1,
            "{attack:?}: {seen:?}: {answer}"
        );
        assert!(seen.iter().all(|line| line.starts_with("POST /one")), "{attack:?}: {seen:?}");
        assert!(
            seen.len() == 1 || answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(),
            "{attack:?}: {answer}"
        );
    }
}

/// Both lengths on a kept-open connection: what follows must not become a request.
#[tokio::test]
async fn a_request_with_two_lengths_ends_the_connection() {
    let stage = Stage::new().await;
    let seen = recorder(&stage).await;
    let host = stage.host(3000);
    for order in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    ] {
        seen.lock().unwrap().clear();
        stage
            .exchange(format!(
                "POST /one HTTP/1.1\r\nHost: {host}\r\n{order}\r\n0\r\n\r\n\
                 GET /two HTTP/1.1\r\nHost: {host}\r\n\r\n"
            ))
            .await;
        assert_eq!(*seen.lock().unwrap(), ["POST /one "], "{order}");
    }
}

#[tokio::test]
async fn bad_bytes_in_the_head_are_refused() {
    let stage = Stage::new().await;
    let seen = recorder(&stage).await;
    let host = stage.host(3000);
    for head in [
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: a\rb\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX y: z\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n: z\r\n\r\n"),
        format!("GET /a b HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/9.9\r\nHost: {host}\r\n\r\n"),
        format!("G@T / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n{}\r\n", "X: y\r\n".repeat(10_000)),
        format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "a".repeat(70_000)),
    ] {
        let mut raw = stage.connect().await;
        // The gateway may answer and close before all of it is sent.
        let _ = raw.0.write_all(head.as_bytes()).await;
        let answer = raw.rest().await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{:?}: {answer}",
            &head[..head.len().min(80)]
        );
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bodies_keep_their_framing() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, _| async move {
            while let Some(head) = read_head(&mut stream).await {
                let head = head.to_ascii_lowercase();
                if head.contains("transfer-encoding: chunked") {
                    let mut all = Vec::new();
                    while !all.ends_with(b"0\r\n\r\n") {
                        all.push(tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap());
                    }
                }
                let framed: Vec<&str> = head
                    .lines()
                    .filter(|l| l.starts_with("content-length") || l.starts_with("transfer-"))
                    .collect();
                let body = framed.join(";");
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                if head.contains("content-length: 3") {
                    return;
                }
            }
        })
        .await;
    let host = stage.host(3000);
    let send = async |rest: &str| {
        let answer = stage
            .exchange(rest.replace("HOST", &format!("Host: {host}\r\nConnection: close")))
            .await;
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    assert_eq!(send("GET / HTTP/1.1\r\nHOST\r\n\r\n").await, "");
    assert_eq!(
        send("POST / HTTP/1.1\r\nHOST\r\nContent-Length: 0\r\n\r\n").await,
        "content-length: 0"
    );
    assert_eq!(
        send("GET / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
            .await,
        "transfer-encoding: chunked"
    );
    assert_eq!(
        send("POST / HTTP/1.1\r\nHOST\r\nContent-Length: 3\r\n\r\nabc").await,
        "content-length: 3"
    );
}

#[tokio::test]
async fn an_answer_with_two_lengths_is_read_by_its_chunks() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, _| async move {
            read_head(&mut stream).await;
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
                          5\r\nhello\r\n0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
    assert_eq!(stage.text(3000, "/").await, (200, "hello".into()));
}

#[tokio::test]
async fn trailers_go_through() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, _| async move {
            let head = read_head(&mut stream).await.unwrap().to_ascii_lowercase();
            assert!(head.contains("te: trailers"), "{head}");
            let answer = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                          2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
    let host = stage.host(3000);
    let answer = stage
        .exchange(format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n"
        ))
        .await;
    assert!(answer.ends_with("0\r\nx-sum: 42\r\n\r\n"), "{answer}");

    let request = http::Request::builder()
        .uri(format!("http://{host}/"))
        .header("te", "trailers")
        .body(Body::empty())
        .unwrap();
    let response = stage.h2().await.send_request(request).await.unwrap();
    let collected = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
}

#[tokio::test]
async fn the_server_is_asked_before_a_body_that_waits_is_sent() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, _| async move {
            let head = read_head(&mut stream).await.unwrap();
            assert!(head.to_ascii_lowercase().contains("expect: 100-continue"));
            if head.starts_with("PUT /yes") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
                let mut body = [0; 3];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.unwrap();
                assert_eq!(&body, b"abc");
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            } else {
                let no = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(no).await.unwrap();
            }
        })
        .await;
    let host = stage.host(3000);
    let head = |path: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut raw = stage.connect().await;
    raw.send(head("/yes")).await;
    assert_eq!(raw.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send("abc").await;
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));

    let mut raw = stage.connect().await;
    raw.send(head("/no")).await;
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 417 "));
}

#[tokio::test]
async fn header_values_cannot_split() {
    let stage = Stage::new().await;
    stage
        .http(
            3000,
            Router::new().fallback(|request: AxumRequest| async move {
                request.headers().keys().any(|name| name == "x-injected").to_string()
            }),
        )
        .await;
    let host = stage.host(3000);
    // Encoded line breaks stay what they are.
    let request = http::Request::builder()
        .uri("/%0d%0aX-Injected:%201?q=%0d%0aX-Injected: 1".replace(' ', "%20"))
        .header("host", &host)
        .header("x-a", "b%0d%0aX-Injected: 1")
        .body(Body::empty())
        .unwrap();
    assert_eq!(read(stage.request(request).await).await, (200, "false".into()));
}
