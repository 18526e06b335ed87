//! Template builds that clients asked for and nobody waits for.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use soulbox_image::Templates;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// How long a build that is watched goes on without anybody who asks for its state.
const PATIENCE: Duration = Duration::from_secs(10);

/// Owns one task per template; a build stops when this is dropped. How far a build is, and why
/// one failed, is asked of [`Templates`].
#[derive(Debug, Default)]
pub struct Builds(Mutex<HashMap<String, Build>>);

#[derive(Debug)]
struct Build {
    task: JoinHandle<()>,
    watch: Arc<Watch>,
}

/// Whether somebody still looks at a build.
#[derive(Debug)]
struct Watch {
    /// When one asked last; none once the build was given up.
    asked: Mutex<Option<Instant>>,
    /// Set when one asked who will not look again.
    unwatched: AtomicBool,
}

impl Builds {
    /// Builds `name` in the background unless that already happens; with `watched`, only as long as
    /// it is [touched](Self::touch), unless others ask for it without. `name` must be known, since the
    /// map grows with it.
    pub fn start(&self, templates: &Templates, name: &str, watched: bool) {
        let mut builds = self.0.lock();
        let running = builds.get(name).filter(|build| !build.task.is_finished());
        // One that was just given up ends, and is none to join.
        if running.is_some_and(|build| build.watch.ask(watched)) {
            return;
        }
        builds.retain(|_, build| !build.task.is_finished());
        let owned = name.to_owned();
        // Under way when this returns: whoever asks next sees it.
        let Ok(build) = templates.start(name) else { return };
        let watch = Arc::new(Watch::new(watched));
        let left = Arc::clone(&watch);
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                built = build => match built {
                    Ok(template) => tracing::info!(template = %template.id, "template built"),
                    Err(error) => tracing::error!(template = owned, %error, "template not built"),
                },
                () = left.alone() => {
                    tracing::info!(template = owned, "stopped a build that nobody watches");
                }
            }
        });
        builds.insert(name.to_owned(), Build { task, watch });
    }

    /// Somebody asks how far a build is.
    pub fn touch(&self, name: &str) {
        if let Some(build) = self.0.lock().get(name) {
            build.watch.ask(true);
        }
    }
}

impl Watch {
    fn new(watched: bool) -> Self {
        Self { asked: Mutex::new(Some(Instant::now())), unwatched: AtomicBool::new(!watched) }
    }

    /// Somebody asks, who looks again or not. False if the build was given up.
    fn ask(&self, watched: bool) -> bool {
        let mut asked = self.asked.lock();
        self.unwatched.fetch_or(!watched, Relaxed);
        let goes_on = asked.is_some();
        *asked = asked.map(|_| Instant::now());
        goes_on
    }

    /// Returns when nobody looks any more.
    async fn alone(&self) {
        while let Some(until) = self.patience() {
            sleep_until(until).await;
        }
    }

    /// Until when it waits for somebody who asks; none when it is given up.
    fn patience(&self) -> Option<Instant> {
        let mut asked = self.asked.lock();
        let until = (*asked)? + PATIENCE;
        let now = Instant::now();
        if self.unwatched.load(Relaxed) {
            return Some(now + PATIENCE);
        }
        if until <= now {
            *asked = None;
        }
        asked.map(|_| until)
    }
}

impl Drop for Builds {
    fn drop(&mut self) {
        for build in self.0.get_mut().values() {
            build.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_build_is_left_alone_when_nobody_asks_in_time() {
        let watch = Arc::new(Watch::new(true));
        let left = tokio::spawn({
            let watch = Arc::clone(&watch);
            async move { watch.alone().await }
        });
        for _ in 0..5 {
            sleep(PATIENCE - Duration::from_secs(1)).await;
            assert!(!left.is_finished());
            assert!(watch.ask(true));
        }
        sleep(PATIENCE + Duration::from_secs(1)).await;
        assert!(left.is_finished());
        assert!(!watch.ask(true), "nobody joins it any more");
        assert!(!watch.ask(false));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_does_not_watch_keeps_it_going() {
        let watch = Watch::new(false);
        assert!(timeout(Duration::from_secs(3600), watch.alone()).await.is_err());
    }
}
