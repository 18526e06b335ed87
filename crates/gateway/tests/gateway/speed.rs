//! What the gateway costs: run with `--run-ignored all --no-capture` for the figures.

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use futures::stream;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use crate::support::Stage;

type Sender = hyper::client::conn::http1::SendRequest<Body>;

async fn open(address: std::net::SocketAddr) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The median of many round trips, and the time for 256 MiB of answer.
async fn measure(address: std::net::SocketAddr, host: &str) -> (Duration, Duration) {
    let mut sender = open(address).await;
    let mut trips = Vec::new();
    for _ in 0..2_000 {
        let request = Request::get("/").header("host", host).body(Body::empty()).unwrap();
        let started = Instant::now();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap();
        trips.push(started.elapsed());
    }
    trips.sort();
    let request = Request::get("/bulk").header("host", host).body(Body::empty()).unwrap();
    let started = Instant::now();
    sender.ready().await.unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(total, 256 << 20);
    (trips[trips.len() / 2], started.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn overhead_against_a_direct_connection() {
    let stage = Stage::new().await;
    let chunk = Bytes::from(vec![0; 64 * 1024]);
    let bulk = move || {
        let chunk = chunk.clone();
        async move {
            let chunks = (0..4096).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
            Response::new(Body::from_stream(stream::iter(chunks)))
        }
    };
    let router = Router::new().route("/bulk", axum::routing::get(bulk)).fallback(|| async { "ok" });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let direct = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    stage.listen(3000, direct);

    let (trip, bulk) = measure(direct, "localhost").await;
    let (proxied_trip, proxied_bulk) = measure(stage.address, &stage.host(3000)).await;
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    println!(
        "round trip p50: direct {trip:?}, gateway {proxied_trip:?} ({:.2}x)",
        ratio(proxied_trip, trip)
    );
    println!(
        "256 MiB: direct {bulk:?}, gateway {proxied_bulk:?} ({:.2}x)",
        ratio(proxied_bulk, bulk)
    );
    assert!(ratio(proxied_trip, trip) < 6.0);
    assert!(ratio(proxied_bulk, bulk) < 6.0);
}
