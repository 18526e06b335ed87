//! From one process to any number of clients, with bounded memory.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::exit::End;

/// How many chunks wait for a slow client before the process has to.
const QUEUE: usize = 64;

/// What a process wrote, in one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunk {
    Stdout(Bytes),
    Stderr(Bytes),
    Terminal(Bytes),
}

/// Hands every chunk to every subscriber; without one, output is lost.
#[derive(Debug, Default)]
pub(super) struct Fanout(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    subscribers: Vec<mpsc::Sender<Chunk>>,
    end: Option<End>,
}

/// A client's view of the output from the moment it subscribed.
#[derive(Debug)]
pub(super) struct Subscription {
    chunks: mpsc::Receiver<Chunk>,
    fanout: Arc<Fanout>,
}

/// A chunk that some subscribers had no room for.
#[derive(Debug)]
pub(super) struct Undelivered {
    chunk: Chunk,
    to: Vec<mpsc::Sender<Chunk>>,
}

impl Fanout {
    pub(super) fn subscribe(self: &Arc<Self>) -> Subscription {
        let (sender, chunks) = mpsc::channel(QUEUE);
        let mut inner = self.0.lock();
        // A silent process would otherwise never notice those who left.
        inner.subscribers.retain(|subscriber| !subscriber.is_closed());
        if inner.end.is_none() {
            inner.subscribers.push(sender);
        }
        Subscription { chunks, fanout: Arc::clone(self) }
    }

    /// Hands out a chunk without waiting; says who had no room.
    pub(super) fn offer(&self, chunk: Chunk) -> Option<Undelivered> {
        let mut to = Vec::new();
        let subscribers = &mut self.0.lock().subscribers;
        subscribers.retain(|subscriber| match subscriber.try_send(chunk.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                to.push(subscriber.clone());
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
        (!to.is_empty()).then_some(Undelivered { chunk, to })
    }

    /// No chunk comes after this.
    pub(super) fn end(&self, end: End) {
        let mut inner = self.0.lock();
        inner.end = Some(end);
        inner.subscribers.clear();
    }
}

impl Undelivered {
    /// Waits until everybody has the chunk or left; may be dropped and called again.
    pub(super) async fn deliver(&mut self) {
        while let Some(subscriber) = self.to.last() {
            if let Ok(permit) = subscriber.reserve().await {
                permit.send(self.chunk.clone());
            }
            self.to.pop();
        }
    }
}

impl Subscription {
    /// The next chunk, or the end, again and again; `Err(None)` when the agent gave up the process.
    pub(super) async fn next(&mut self) -> Result<Chunk, Option<End>> {
        match self.chunks.recv().await {
            Some(chunk) => Ok(chunk),
            None => Err(self.fanout.0.lock().end.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::*;

    fn chunk(n: usize) -> Chunk {
        Chunk::Stdout(Bytes::from(n.to_string()))
    }

    #[tokio::test]
    async fn a_slow_subscriber_holds_up_the_chunk_but_loses_none() {
        let fanout = Arc::new(Fanout::default());
        let mut slow = fanout.subscribe();
        let mut fast = fanout.subscribe();
        for n in 0..QUEUE {
            assert!(fanout.offer(chunk(n)).is_none());
            assert_eq!(fast.next().await, Ok(chunk(n)));
        }
        let mut undelivered = fanout.offer(chunk(QUEUE)).unwrap();
        assert_eq!(fast.next().await, Ok(chunk(QUEUE)), "the fast one must not wait");
        let pause = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(pause, undelivered.deliver()).await.is_err());
        assert_eq!(slow.next().await, Ok(chunk(0)));
        undelivered.deliver().await;
        for n in 1..=QUEUE {
            assert_eq!(slow.next().await, Ok(chunk(n)));
        }
    }

    #[tokio::test]
    async fn the_end_comes_after_what_was_queued_and_to_late_subscribers() {
        let fanout = Arc::new(Fanout::default());
        let mut subscription = fanout.subscribe();
        fanout.offer(chunk(1));
        let end = End::from(ExitStatus::from_raw(0));
        fanout.end(end.clone());
        assert_eq!(subscription.next().await, Ok(chunk(1)));
        assert_eq!(subscription.next().await, Err(Some(end.clone())));
        assert_eq!(fanout.subscribe().next().await, Err(Some(end)));
    }

    #[tokio::test]
    async fn who_left_is_forgotten() {
        let fanout = Arc::new(Fanout::default());
        for _ in 0..100 {
            drop(fanout.subscribe());
        }
        let _last = fanout.subscribe();
        assert_eq!(fanout.0.lock().subscribers.len(), 1);
    }
}
