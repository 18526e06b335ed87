//! The body of an upload as it comes in.

use std::time::Duration;

use axum::{body::Body, http::StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::refusal::{Refusal, Result};

/// How long an upload may stand still.
const STALLED: Duration = Duration::from_secs(300);

/// The bytes that the client sends.
#[derive(Debug)]
pub struct Incoming {
    body: Body,
    ended: bool,
}

impl Incoming {
    pub fn new(body: Body) -> Self {
        Self { body, ended: false }
    }

    /// The next bytes, never empty; `None` at the end. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.ended {
            let frame = match timeout(STALLED, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    self.ended = true;
                    return Err(Refusal::bad_request(format!("error reading the body: {error}")));
                }
                Ok(None) => break,
                Err(_) => {
                    self.ended = true;
                    let message = format!("no data came for {} s", STALLED.as_secs());
                    return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, message));
                }
            };
            // Trailers mean nothing here.
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                return Ok(Some(bytes));
            }
        }
        self.ended = true;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use tokio::time::Instant;

    use super::*;

    fn body(first: &'static str) -> Incoming {
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(first))]);
        Incoming::new(Body::from_stream(first.chain(stream::pending())))
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_stands_still_is_given_up() {
        let mut incoming = body("first");
        assert_eq!(incoming.next().await.unwrap().unwrap(), "first");
        let started = Instant::now();
        assert_eq!(incoming.next().await.unwrap_err().status, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(started.elapsed().as_secs(), STALLED.as_secs());
        assert_eq!(incoming.next().await, Ok(None));
    }
}
