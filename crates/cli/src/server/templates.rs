//! The built-in templates at the start of a server.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use soulbox_image::{BASE, HOST, Progress, Templates};
use tokio::task::JoinHandle;

use crate::failure::Result;

/// Percent between two lines of the log.
const EVERY: u8 = 10;

/// Builds what is missing; stops when dropped.
#[derive(Debug)]
pub(super) struct Preparation(Option<JoinHandle<()>>);

impl Preparation {
    /// Makes `host` at once, which takes milliseconds, and `base` in the background.
    ///
    /// # Errors
    /// If `host` can't be made.
    pub(super) async fn start(templates: &Arc<Templates>, base: bool) -> Result<Self> {
        templates.build(HOST, |_| {}).await.map_err(soulbox_model::Error::from)?;
        if !base {
            return Ok(Self(None));
        }
        let templates = Arc::clone(templates);
        Ok(Self(Some(tokio::spawn(async move { build(&templates).await }))))
    }
}

impl Drop for Preparation {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn build(templates: &Templates) {
    if templates.resolve(BASE).is_ok() {
        return;
    }
    tracing::info!(template = BASE, "building the default template; `host` can be used meanwhile");
    let next = AtomicU8::new(EVERY);
    let report = |progress: Progress| {
        if progress.percent >= next.load(Ordering::Relaxed) {
            next.store(progress.percent / EVERY * EVERY + EVERY, Ordering::Relaxed);
            tracing::info!(template = BASE, percent = progress.percent, step = progress.step);
        }
    };
    match templates.build(BASE, report).await {
        Ok(template) => {
            tracing::info!(template = BASE, bytes = template.size_bytes, "template ready");
        }
        Err(error) => {
            tracing::error!(template = BASE, %error, "not built; try again with `soulbox template build base`");
        }
    }
}
