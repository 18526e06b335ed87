//! One request to the agent of a sandbox.
//!
//! It runs among the sandbox's processes: what it answers is bounded and not believed.

use bytes::Bytes;
use http::{header::HOST, request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
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
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let request = request.header(HOST, "sandbox").body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("the agent answered {}", response.status()).into());
        }
        let body = Limited::new(response.into_body(), most).collect().await?;
        Ok::<_, BoxError>(body.to_bytes())
    };
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
