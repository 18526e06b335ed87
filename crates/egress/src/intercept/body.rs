//! What answers consist of.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body as Polled, Frame, Incoming, SizeHint};

use super::scrub::Scrub;

/// The body of an answer to the sandbox.
pub(super) enum Body {
    /// Of our own making.
    Own(Option<Bytes>),
    Plain(Incoming),
    Scrubbed {
        inner: Incoming,
        scrub: Scrub,
        last: Last,
    },
}

/// What of a scrubbed body is still to be passed on.
pub(super) enum Last {
    NotSeen,
    /// The end came, with trailers or without.
    Seen(Option<Frame<Bytes>>),
}

impl Body {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Own(Some(bytes))
    }

    pub(super) fn scrubbed(inner: Incoming, scrub: Scrub) -> Self {
        if scrub.is_empty() {
            Self::Plain(inner)
        } else {
            Self::Scrubbed { inner, scrub, last: Last::NotSeen }
        }
    }
}

impl Polled for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (inner, scrub, last) = match self.get_mut() {
            Self::Own(bytes) => return Poll::Ready(bytes.take().map(|all| Ok(Frame::data(all)))),
            Self::Plain(inner) => {
                return Pin::new(inner).poll_frame(context).map_err(io::Error::other);
            }
            Self::Scrubbed { inner, scrub, last } => (inner, scrub, last),
        };
        loop {
            if let Last::Seen(trailers) = last {
                return Poll::Ready(trailers.take().map(Ok));
            }
            let frame = ready!(Pin::new(&mut *inner).poll_frame(context));
            let part = match frame.transpose().map_err(io::Error::other)?.map(Frame::into_data) {
                Some(Ok(data)) => scrub.part(&data),
                end => {
                    let mut trailers = end.and_then(Result::err);
                    if let Some(fields) = trailers.as_mut().and_then(Frame::trailers_mut) {
                        scrub.headers(fields);
                    }
                    *last = Last::Seen(trailers);
                    scrub.rest()
                }
            };
            if !part.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |all| all.len() as u64))
            }
            Self::Plain(inner) => inner.size_hint(),
            // Masks are as long as what they hide, but a part may be held back.
            Self::Scrubbed { inner, scrub, .. } => match inner.size_hint().exact() {
                Some(left) => SizeHint::with_exact(left + scrub.held() as u64),
                None => SizeHint::default(),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Plain(inner) => inner.is_end_stream(),
            Self::Scrubbed { inner, scrub, last } => {
                scrub.held() == 0 && (matches!(last, Last::Seen(None)) || inner.is_end_stream())
            }
        }
    }
}
