//! Bodies on their way through, frame by frame.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use soulbox_linger::{Lingering, discard};
use tokio::time::{Sleep, sleep};

use crate::{listener::Run, pool::Lease};

/// How long to wait for a server's word on `Expect: 100-continue` before sending the body anyway
/// (RFC 9110 §10.1.1 wants that bounded).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// A client's request body as the connection into the sandbox reads it.
pub(crate) struct Upload {
    shared: Arc<Shared>,
    wait: Option<Pin<Box<Sleep>>>,
}

/// The gateway's own view of an [`Upload`] that a connection holds.
pub(crate) struct UploadHandle(Arc<Shared>);

struct Shared {
    /// `None` when it was empty from the start or is taken back.
    incoming: Mutex<Option<Incoming>>,
    finished: AtomicBool,
    /// The client broke off or its framing made no sense.
    broken: AtomicBool,
    /// Closed while the client waits for `100 Continue`.
    open: AtomicBool,
    waker: AtomicWaker,
}

impl Upload {
    /// With `expect`, nothing is read from the client before the server asks for it.
    pub fn new(incoming: Incoming, expect: bool) -> (Self, UploadHandle) {
        let empty = incoming.is_end_stream();
        let shared = Arc::new(Shared {
            incoming: Mutex::new((!empty).then_some(incoming)),
            finished: AtomicBool::new(empty),
            broken: AtomicBool::new(false),
            open: AtomicBool::new(!expect),
            waker: AtomicWaker::new(),
        });
        let wait = (expect && !empty).then(|| Box::pin(sleep(CONTINUE_WAIT)));
        (Self { shared: Arc::clone(&shared), wait }, UploadHandle(shared))
    }

    /// Nothing, for a request that is sent once more and had no body.
    pub fn empty() -> Self {
        let shared = Arc::new(Shared {
            incoming: Mutex::new(None),
            finished: AtomicBool::new(true),
            broken: AtomicBool::new(false),
            open: AtomicBool::new(true),
            waker: AtomicWaker::new(),
        });
        Self { shared, wait: None }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(wait) = &mut self.wait else { return Poll::Ready(()) };
        self.shared.waker.register(cx.waker());
        if !self.shared.open.load(Ordering::Acquire) {
            ready!(wait.as_mut().poll(cx));
            self.shared.open.store(true, Ordering::Release);
        }
        self.wait = None;
        Poll::Ready(())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        ready!(self.poll_open(cx));
        let mut incoming = self.shared.incoming.lock();
        let Some(body) = incoming.as_mut() else {
            // Taken back: the connection that asks is being closed.
            return if self.shared.finished.load(Ordering::Acquire) {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        match &frame {
            Some(Ok(_)) if !body.is_end_stream() => {}
            Some(Ok(_)) | None => self.shared.finished.store(true, Ordering::Release),
            Some(Err(_)) => self.shared.broken.store(true, Ordering::Release),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.shared.incoming.lock().as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.incoming.lock().as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl UploadHandle {
    /// The server asked for the body.
    pub fn open(&self) {
        self.0.open.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    pub fn opener(&self) -> impl Fn() + Send + Sync + 'static {
        let handle = Self(Arc::clone(&self.0));
        move || handle.open()
    }

    /// Whether the sandbox got all of it.
    pub fn is_finished(&self) -> bool {
        self.0.finished.load(Ordering::Acquire)
    }

    /// Whether the client failed to send what it announced.
    pub fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }

    /// What the client has yet to send, if it is sending: `None` if it sent all or still waits for leave.
    pub fn take_rest(&self) -> Option<Incoming> {
        if self.is_finished() || !self.0.open.load(Ordering::Acquire) {
            return None;
        }
        self.0.incoming.lock().take()
    }
}

/// A request whose body, given up before its end, goes on being taken from the client, which would
/// otherwise find the connection closed while it sends, and no answer.
pub(crate) fn lingering(
    request: Request<Incoming>,
    run: Arc<Run>,
) -> Request<Lingering<impl FnOnce(Incoming) + Unpin + Send + 'static>> {
    Lingering::of(request, move |rest| run.spawn(discard(rest)))
}

/// A sandbox's answer on its way to the client. Dropped early, it closes the connection into the
/// sandbox; read to the end, it gives the connection back.
pub(crate) struct Download {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl Download {
    pub fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut this = Self { incoming, lease: Some(lease) };
        if this.incoming.is_end_stream() {
            this.finish();
        }
        this
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            None => self.finish(),
            Some(Ok(_)) if self.incoming.is_end_stream() => self.finish(),
            Some(Ok(_)) => {}
            Some(Err(_)) => self.lease = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// An answer of any origin that holds something until it is sent or given up.
pub(crate) struct Held<G> {
    body: axum::body::Body,
    _guard: G,
}

impl<G> Held<G> {
    pub fn new(body: axum::body::Body, guard: G) -> Self {
        Self { body, _guard: guard }
    }
}

impl<G: Unpin> Body for Held<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
