//! All watchers of the sandbox, and the tasks that keep them up to date.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak, atomic::AtomicUsize},
};

use parking_lot::Mutex;
use tokio::io::{Interest, unix::AsyncFd};
use tokio_util::task::AbortOnDropHandle;

use super::{Event, Options, Watcher};
use crate::fs::{
    blocking,
    error::{Error, Result},
};

/// Watchers by the id that a polling client knows, and every recursive one.
#[derive(Debug, Default)]
pub struct Watchers {
    kept_by_all: Arc<AtomicUsize>,
    polled: Mutex<HashMap<String, Follow>>,
    recursive: Mutex<Vec<Weak<Watcher>>>,
}

impl Watchers {
    /// Starts to watch; what happens from now on is told.
    pub async fn follow(&self, path: String, options: Options) -> Result<Follow> {
        let kept = Arc::clone(&self.kept_by_all);
        let watcher = blocking(move || Watcher::open(&path, options, kept)).await??;
        let watcher = Arc::new(watcher);
        if options.recursive {
            let mut recursive = self.recursive.lock();
            recursive.retain(|watcher| watcher.strong_count() > 0);
            recursive.push(Arc::downgrade(&watcher));
        }
        Follow::start(watcher)
    }

    /// Keeps a watcher for a client that polls; returns the id to poll with.
    pub fn keep(&self, follow: Follow) -> String {
        let id = format!("w{:032x}", rand::random::<u128>());
        self.polled.lock().insert(id.clone(), follow);
        id
    }

    /// What happened until now and was not polled yet.
    pub async fn poll(&self, id: &str) -> Result<VecDeque<Event>> {
        let watcher = match self.polled.lock().get(id) {
            Some(follow) => Arc::clone(&follow.watcher),
            None => return Err(not_found(id)),
        };
        blocking(move || {
            watcher.drain();
            watcher.take()
        })
        .await?
    }

    /// Ends a polled watcher.
    pub fn forget(&self, id: &str) -> Result<()> {
        self.polled.lock().remove(id).map(drop).ok_or_else(|| not_found(id))
    }

    /// Brings every recursive watcher up to date, so that directories made until now are watched.
    ///
    /// To be called, on a blocking thread, after a directory was made for a client and before that
    /// client can know: what it does in there next must not be missed.
    pub fn settle(&self) {
        let watchers: Vec<_> = self.recursive.lock().iter().filter_map(Weak::upgrade).collect();
        for watcher in watchers {
            watcher.drain();
        }
    }
}

/// A watcher with the task that reads it whenever something happens; both end with it.
#[derive(Debug)]
pub struct Follow {
    watcher: Arc<Watcher>,
    _reading: AbortOnDropHandle<()>,
}

impl Follow {
    fn start(watcher: Arc<Watcher>) -> Result<Self> {
        #[expect(deprecated, reason = "a watcher's descriptor stays the same as long as it lives")]
        let readable = AsyncFd::with_interest(Arc::clone(&watcher), Interest::READABLE)
            .map_err(|error| Error::io("error waiting for inotify events", error))?;
        let reading = AbortOnDropHandle::new(tokio::spawn(keep_reading(readable)));
        Ok(Self { watcher, _reading: reading })
    }

    /// Waits for events; at least one is returned.
    pub async fn next(&self) -> Result<VecDeque<Event>> {
        loop {
            self.watcher.news().await;
            let events = self.watcher.take()?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}

/// Keeps the kernel's queue short and new directories watched, whether or not a client fetches.
async fn keep_reading(readable: AsyncFd<Arc<Watcher>>) {
    while let Ok(mut guard) = readable.readable().await {
        // Before reading, so that what comes while reading counts as new.
        guard.clear_ready();
        loop {
            let watcher = Arc::clone(readable.get_ref());
            match blocking(move || watcher.drain()).await {
                // It is not told again of what is there already.
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return,
            }
        }
    }
}

fn not_found(id: &str) -> Error {
    let id: String = id.chars().take(64).collect();
    Error::NotFound(format!("watcher with id {id} not found"))
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::time::timeout;

    use super::*;
    use crate::fs::watch::Change;

    #[tokio::test]
    async fn a_poll_brings_what_was_done_a_moment_ago() {
        let root = tempfile::tempdir().unwrap();
        let watchers = Watchers::default();
        let path = root.path().to_str().unwrap().to_owned();
        let id = watchers.keep(watchers.follow(path, Options::default()).await.unwrap());
        for round in 0..200 {
            // Nothing else can run on this thread before the poll begins.
            fs::create_dir(root.path().join(round.to_string())).unwrap();
            let events = watchers.poll(&id).await.unwrap();
            let told: Vec<_> = events.iter().map(|e| (e.name.as_str(), e.change)).collect();
            assert_eq!(told, [(round.to_string().as_str(), Change::Create)]);
        }
    }

    #[tokio::test]
    async fn events_that_others_drained_still_wake_the_follower() {
        let root = tempfile::tempdir().unwrap();
        let watchers = Watchers::default();
        let path = root.path().to_str().unwrap().to_owned();
        let options = Options { recursive: true, ..Options::default() };
        let follow = watchers.follow(path, options).await.unwrap();
        for round in 0..50 {
            fs::create_dir(root.path().join(round.to_string())).unwrap();
            watchers.settle();
            let events = timeout(Duration::from_secs(20), follow.next()).await.unwrap();
            assert_eq!(events.unwrap().len(), 1);
        }
    }
}
