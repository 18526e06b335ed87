//! What one flow carries, as it moves.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use super::{
    Carried, Decision, Event, Place, Target, Traffic, Way,
    limits::{Applying, UsedUp},
};
use crate::Reason;

/// Counts one flow, holds it to the limits, and tells of its end when it is dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    traffic: Arc<Traffic>,
    flow: u64,
    protocol: &'static str,
    target: Target,
    place: Place,
    since: Instant,
    bytes: [AtomicU64; 2],
    applying: Mutex<Applying>,
    /// By what it was ended before its time.
    cut: Mutex<Option<Reason>>,
    /// Wakes who waits for that.
    cutting: Notify,
    rule: String,
}

impl Meter {
    /// Of a flow that is allowed by `rule`.
    pub(crate) fn begin(
        traffic: &Arc<Traffic>,
        protocol: &'static str,
        target: Target,
        place: Place,
        rule: String,
    ) -> Self {
        let flow = traffic.flows.fetch_add(1, Relaxed);
        let begun = Event::new(Decision::Allowed, protocol, target.clone(), rule.clone());
        traffic.note(Event { flow: Some(flow), ..begun });
        Self {
            traffic: Arc::clone(traffic),
            flow,
            protocol,
            target,
            place,
            since: Instant::now(),
            bytes: Default::default(),
            applying: Mutex::default(),
            cut: Mutex::default(),
            cutting: Notify::new(),
            rule,
        }
    }

    /// Reads at most `most` bytes by `act`, which must not wait.
    ///
    /// # Errors
    /// What `act` says; [`UsedUp`] inside.
    pub(crate) fn read(
        &self,
        way: Way,
        most: usize,
        act: impl FnOnce(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.pass((way, true), most, act)
    }

    /// Writes at most `most` bytes by `act`, which must not wait.
    ///
    /// # Errors
    /// What `act` says; [`UsedUp`] inside.
    pub(crate) fn write(
        &self,
        way: Way,
        most: usize,
        act: impl FnOnce(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.pass((way, false), most, act)
    }

    fn pass(
        &self,
        way: (Way, bool),
        most: usize,
        act: impl FnOnce(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.cut.lock().is_some() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let passed = self.traffic.limits.pass(way, (&self.place, &self.applying), most, act);
        match &passed {
            Ok(moved) => {
                self.bytes[way.0 as usize].fetch_add(*moved as u64, Relaxed);
                self.traffic.bytes[way.0 as usize].fetch_add(*moved as u64, Relaxed);
            }
            Err(error) => {
                if let Some(used_up) = UsedUp::of(error) {
                    self.cut(&Reason::UsedUp(used_up.clone()));
                }
            }
        }
        passed
    }

    /// Notes why the flow ends before its time; the first reason counts.
    pub(crate) fn cut(&self, reason: &Reason) {
        self.cut.lock().get_or_insert_with(|| reason.clone());
        self.cutting.notify_one();
    }

    /// Waits until the flow ends before its time; for one to wait.
    pub(crate) async fn until_cut(&self) -> Reason {
        loop {
            if let Some(reason) = self.was_cut() {
                return reason;
            }
            self.cutting.notified().await;
        }
    }

    pub(crate) fn was_cut(&self) -> Option<Reason> {
        self.cut.lock().clone()
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let [sent, received] = &self.bytes;
        let carried = Carried {
            sent: sent.load(Relaxed),
            received: received.load(Relaxed),
            millis: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let cut = self.cut.get_mut().take();
        let rule = cut.as_ref().map_or_else(|| std::mem::take(&mut self.rule), Reason::rule);
        let target = std::mem::take(&mut self.target);
        let ended = Event::new(Decision::Ended, self.protocol, target, rule);
        self.traffic.note(Event {
            reason: cut.map(|reason| reason.to_string()),
            flow: Some(self.flow),
            carried: Some(carried),
            ..ended
        });
    }
}

/// A connection to the outside whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

/// The kernel's word for what polls call pending.
fn ready(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn polled(done: io::Result<usize>) -> Poll<io::Result<usize>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        done => Poll::Ready(done),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, meter } = self.get_mut();
        let read = meter.read(Way::Received, buffer.remaining(), |most| {
            let most = most.min(buffer.remaining());
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
            let polled = Pin::new(inner).poll_read(context, &mut part);
            let filled = part.filled().len();
            ready(polled.map_ok(|()| filled))
        });
        polled(read).map_ok(|filled| buffer.advance(filled))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { inner, meter } = self.get_mut();
        polled(meter.write(Way::Sent, bytes.len(), |most| {
            ready(Pin::new(inner).poll_write(context, bytes.get(..most).unwrap_or(bytes)))
        }))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}
