//! Reads to its end what a client still sends after it was answered.
//!
//! hyper closes a connection whose request was answered before all of its body was read, as refusals
//! are. Bytes that arrive at a closed socket reset it, and the answer is lost with them; a proxy in
//! between may also take the connection for reusable. So a body that its handler gives up goes on
//! being read, into nothing.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    http::{HeaderMap, header},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// How long a client may go on sending, and with what gaps.
const LIMIT: Duration = Duration::from_secs(30);
const GAP: Duration = Duration::from_secs(5);

/// A request body; dropped before its end, it hands itself over to whoever owns the connection.
#[derive(Debug)]
pub struct Lingering {
    incoming: Option<Incoming>,
    rest: mpsc::Sender<Incoming>,
}

impl Lingering {
    /// Follows the body of a request with `headers`; `rest` gets what is left of it.
    pub fn new(incoming: Incoming, headers: &HeaderMap, rest: mpsc::Sender<Incoming>) -> Self {
        // A client that waits for leave to send has nothing on its way.
        let rest = if headers.contains_key(header::EXPECT) { mpsc::channel(1).0 } else { rest };
        Self { incoming: Some(incoming), rest }
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = Pin::new(incoming).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.incoming = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take()
            && !incoming.is_end_stream()
        {
            // Without a taker the connection is over anyway.
            let _ = self.rest.try_send(incoming);
        }
    }
}

/// Reads and forgets, within bounds.
pub async fn discard(mut incoming: Incoming) {
    let end = Instant::now() + LIMIT;
    loop {
        let next = std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx));
        match timeout_at(end.min(Instant::now() + GAP), next).await {
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_)) | None) | Err(_) => return,
        }
    }
}
