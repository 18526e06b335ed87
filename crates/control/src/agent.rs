//! One request to the agent of a sandbox.
//!
//! It runs among the sandbox's processes: what it answers is bounded and not believed.

use bytes::Bytes;
use http::{Request, Response, header::HOST, request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use soulbox_engine::Conduit;
use soulbox_model::BoxError;

/// The body of a good answer, of at most `most` bytes.
pub(crate) async fn ask(
    stream: Conduit,
    request: request::Builder,
    body: Bytes,
    most: usize,
) -> Result<Bytes, BoxError> {
    let request = request.header(HOST, "sandbox").body(Full::new(body))?;
    exchange(stream, request, async |response: Response<Incoming>| {
        if !response.status().is_success() {
            return Err(format!("the agent answered {}", response.status()).into());
        }
        let body = Limited::new(response.into_body(), most).collect().await?;
        Ok(body.to_bytes())
    })
    .await
}

/// Sends one request, and reads its answer with `read`.
pub(crate) async fn exchange<B, T>(
    stream: Conduit,
    request: Request<B>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, BoxError>,
) -> Result<T, BoxError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async { read(sender.send_request(request).await?).await };
    // Both in this task: nothing of the connection outlives the call.
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            ended?;
            exchange.await
        }
    }
}
