use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{sync::mpsc, time::timeout};

use crate::support::{SOON, Stage};

/// Answers each message at once, and a status at the end, as a bidirectional gRPC method does.
async fn echo(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    assert_eq!(request.version(), Version::HTTP_2);
    assert_eq!(request.headers()["te"], "trailers");
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(Ok(frame)) = request.body_mut().frame().await {
            if send.send(frame).await.is_err() {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let _ = send.send(Frame::trailers(trailers)).await;
    });
    let frames = futures::stream::unfold(receive, |mut receive| async {
        Some((Ok::<_, Infallible>(receive.recv().await?), receive))
    });
    let body = Body::new(StreamBody::new(frames));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

#[tokio::test]
async fn a_call_streams_both_ways_and_ends_with_its_status() {
    let stage = Stage::new().await;
    stage
        .raw(50051, |stream, _| async move {
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(echo))
                .await;
        })
        .await;
    let (send, receive) = mpsc::channel::<Bytes>(1);
    let messages = futures::stream::unfold(receive, |mut receive| async {
        Some((Ok::<_, Infallible>(receive.recv().await?), receive))
    });
    let request = Request::post(format!("http://{}/pkg.Service/Method", stage.host(50051)))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(Body::from_stream(messages))
        .unwrap();
    let mut sender = stage.h2().await;
    let mut response = timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    for message in ["one", "two"] {
        send.send(Bytes::from(message)).await.unwrap();
        let frame = timeout(SOON, response.body_mut().frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message);
    }
    drop(send);
    let end = timeout(SOON, response.body_mut().frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(end.into_trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_server_without_http2_is_502_and_grpc_web_needs_none() {
    let stage = Stage::new().await;
    stage
        .raw(3000, |mut stream, _| async move {
            crate::support::read_head(&mut stream).await;
            let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, ok).await;
        })
        .await;
    let mut sender = stage.h2().await;
    for (kind, status) in [("application/grpc", 502), ("application/grpc-web+proto", 200)] {
        let request = Request::post(format!("http://{}/", stage.host(3000)))
            .header("content-type", kind)
            .body(Body::empty())
            .unwrap();
        let response = timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(response.status(), status, "{kind}");
    }
}
