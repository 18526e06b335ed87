//! Reads to its end what a client still sends after it was answered.
//!
//! hyper closes a connection whose request was answered before all of its body was read, as refusals
//! are. Bytes that arrive at a closed socket reset it, and the answer is lost with them; a proxy in
//! between may also take the connection for reusable. So a body that its handler gives up goes on
//! being read, into nothing.
//!
//! For HTTP/1.1 servers, the agent and the gateway. Which task does the reading is theirs to say, so that
//! it ends with what it belongs to. Start at [`Lingering`].
//!
//! Beside it [`Socket`], by which the gateway and the way out see that a client left while hyper awaits
//! its answer.

mod socket;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Version, header};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
pub use socket::{ALIVE_AFTER, Socket, keep_alive};
use tokio::time::{Instant, timeout_at};

/// How long a client may go on sending, and with what gaps.
const LIMIT: Duration = Duration::from_secs(30);
const GAP: Duration = Duration::from_secs(5);

/// A request's body; dropped before its end, it hands the rest over.
pub struct Lingering<F: FnOnce(Incoming) + Unpin> {
    incoming: Option<Incoming>,
    /// None where nothing has to be read.
    rest: Option<F>,
}

impl<F: FnOnce(Incoming) + Unpin> Lingering<F> {
    /// Follows the body of `request`; `rest` gets what is left of it, for [`discard`].
    pub fn of(request: Request<Incoming>, rest: F) -> Request<Self> {
        // Nothing follows where the client waits for leave, and HTTP/2 ends a stream by itself.
        let streams =
            request.version() < Version::HTTP_2 && !request.headers().contains_key(header::EXPECT);
        request.map(|incoming| Self { incoming: Some(incoming), rest: streams.then_some(rest) })
    }
}

impl<F: FnOnce(Incoming) + Unpin> Body for Lingering<F> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.incoming = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<F: FnOnce(Incoming) + Unpin> Drop for Lingering<F> {
    fn drop(&mut self) {
        let unread = self.incoming.take().filter(|incoming| !incoming.is_end_stream());
        if let (Some(incoming), Some(rest)) = (unread, self.rest.take()) {
            rest(incoming);
        }
    }
}

impl<F: FnOnce(Incoming) + Unpin> fmt::Debug for Lingering<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lingering").field(&self.incoming).finish()
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
