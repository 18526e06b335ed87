//! One clock for all timeouts.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use soulbox_model::SandboxId;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Deadlines in order. One task waits for the first of them.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: Mutex<BTreeSet<(Instant, SandboxId)>>,
    /// The first deadline came nearer.
    nearer: Notify,
}

impl Timers {
    /// Moves a deadline, or sets it where there is no `old` one.
    pub(crate) fn set(&self, id: &SandboxId, old: Option<Instant>, new: Instant) {
        let mut queue = self.queue.lock();
        if let Some(old) = old {
            queue.remove(&(old, id.clone()));
        }
        let first = queue.first().is_none_or(|(first, _)| new < *first);
        queue.insert((new, id.clone()));
        drop(queue);
        if first {
            self.nearer.notify_one();
        }
    }

    pub(crate) fn remove(&self, id: &SandboxId, at: Instant) {
        self.queue.lock().remove(&(at, id.clone()));
    }

    /// Waits until at least one deadline is past, and takes all that are.
    pub(crate) async fn due(&self) -> Vec<SandboxId> {
        loop {
            let first = self.queue.lock().first().map(|(at, _)| *at);
            match first {
                None => self.nearer.notified().await,
                Some(at) if at <= Instant::now() => return self.take_past(),
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.nearer.notified() => {}
                },
            }
        }
    }

    fn take_past(&self) -> Vec<SandboxId> {
        let now = Instant::now();
        let mut queue = self.queue.lock();
        let mut past = Vec::new();
        while queue.first().is_some_and(|(at, _)| *at <= now) {
            past.extend(queue.pop_first().map(|(_, id)| id));
        }
        past
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_come_in_order_and_when_they_should() {
        let timers = Timers::default();
        let start = Instant::now();
        let [a, b, c] = [(); 3].map(|()| SandboxId::random());
        timers.set(&a, None, start + Duration::from_secs(30));
        timers.set(&b, None, start + Duration::from_secs(10));
        timers.set(&c, None, start + Duration::from_secs(20));
        timers.remove(&c, start + Duration::from_secs(20));
        assert_eq!(timers.due().await, [b]);
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(timers.due().await, [a]);
        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_nearer_deadline_wakes_the_one_who_waits() {
        let timers = Timers::default();
        let start = Instant::now();
        let id = SandboxId::random();
        let far = start + Duration::from_secs(1000);
        timers.set(&id, None, far);
        let nearer = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            timers.set(&id, Some(far), start + Duration::from_secs(3));
        };
        let (due, ()) = tokio::join!(timers.due(), nearer);
        assert_eq!(due, [id]);
        assert_eq!(start.elapsed().as_secs(), 3);
        assert!(timers.queue.lock().is_empty());
    }
}
