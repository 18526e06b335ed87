//! The body of an upload as it comes in.

use std::time::Duration;

use axum::{body::Body, http::StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::refusal::{Refusal, Result};

/// How long an upload may stand still.
const STALLED: Duration = Duration::from_secs(300);
/// How long the rest of a refused upload is taken in.
const DRAIN: Duration = Duration::from_secs(10);

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

    /// Takes in what is still to come, for a while and up to `limit` bytes.
    ///
    /// Most clients send everything before they read the answer, and see a broken connection
    /// instead of the answer if the server closes it first.
    pub async fn drain(mut self, limit: u64) {
        let deadline = Instant::now() + DRAIN;
        let mut taken = 0;
        while taken < limit && !self.ended {
            match timeout_at(deadline, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    taken += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                }
                _ => self.ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};

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

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_the_rest_of_a_refused_upload() {
        let started = Instant::now();
        body("first").drain(u64::MAX).await;
        assert_eq!(started.elapsed().as_secs(), DRAIN.as_secs());
        let started = Instant::now();
        body("first").drain(3).await;
        assert_eq!(started.elapsed().as_secs(), 0);
    }
}
