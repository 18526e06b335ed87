//! One request to the agent of a sandbox.
//!
//! It runs among the sandbox's processes: what it answers is bounded and not believed. There is no circuit
//! breaker: the kernel says at once whether somebody listens, and a sandbox that ended is known by its process.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use soulbox_engine::{Conduit, Engine, Target};
use soulbox_model::{BoxError, Error, Result, RetryPolicy, SandboxId};
use tokio::time::sleep;

/// Somebody waits: no attempt begins later than this after the first.
const TOTAL: Duration = Duration::from_secs(5);

fn policy() -> RetryPolicy {
    RetryPolicy { max_delay: Duration::from_secs(1), total: TOTAL, ..RetryPolicy::default() }
}

/// Connects to the agent's private side; nothing was asked before that, so it may be tried again.
pub(crate) async fn connect(engine: &dyn Engine, id: &SandboxId) -> Result<Conduit> {
    policy().run(sleep, || async { Ok(engine.connect(id, Target::Control).await?) }).await
}

/// The body of a good answer, of at most `most` bytes, to a request that may be repeated: where the agent
/// ends the connection before it answers, it is asked again.
pub(crate) async fn ask(
    engine: &dyn Engine,
    id: &SandboxId,
    request: &Request<Bytes>,
    most: usize,
) -> Result<Bytes> {
    let once = || async {
        let stream = engine.connect(id, Target::Control).await?;
        let request = request.clone().map(Full::new);
        exchange(stream, request, async |response: Response<Incoming>| {
            if !response.status().is_success() {
                let context = format!("the agent answered {}", response.status());
                return Err(Error::Internal { context, source: None });
            }
            let body = Limited::new(response.into_body(), most).collect().await;
            body.map(|body| body.to_bytes()).map_err(|e| Error::internal("the agent's answer", e))
        })
        .await
    };
    policy().run(sleep, once).await
}

/// Sends one request, and reads its answer with `read`.
pub(crate) async fn exchange<B, T, E>(
    stream: Conduit,
    request: Request<B>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, E>,
) -> Result<T, E>
where
    B: Body<Data: Send, Error: Into<BoxError>> + 'static,
    E: From<Error>,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(unanswered)?;
    let exchange = async { read(sender.send_request(request).await.map_err(unanswered)?).await };
    // Both in this task: nothing of the connection outlives the call.
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            ended.map_err(unanswered)?;
            exchange.await
        }
    }
}

/// Nothing came back; what came and is no HTTP will not be better the next time.
fn unanswered(error: hyper::Error) -> Error {
    if error.is_parse() || error.is_user() {
        Error::internal("the agent did not answer in HTTP", error)
    } else {
        Error::lost("the agent did not answer", error)
    }
}
