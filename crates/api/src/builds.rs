//! Template builds that clients asked for and nobody waits for.

use std::collections::HashMap;

use parking_lot::Mutex;
use soulbox_image::Templates;
use tokio::task::JoinHandle;

/// Owns one task per template; a build stops when this is dropped. How far a build is, and why
/// one failed, is asked of [`Templates`].
#[derive(Debug, Default)]
pub struct Builds(Mutex<HashMap<String, JoinHandle<()>>>);

impl Builds {
    /// Builds `name` in the background unless that already happens. `name` must be known, since the
    /// map grows with it.
    pub fn start(&self, templates: &Templates, name: &str) {
        let mut tasks = self.0.lock();
        if tasks.get(name).is_some_and(|task| !task.is_finished()) {
            return;
        }
        tasks.retain(|_, task| !task.is_finished());
        let owned = name.to_owned();
        // Under way when this returns: whoever asks next sees it.
        let Ok(build) = templates.start(name) else { return };
        let task = tokio::spawn(async move {
            match build.await {
                Ok(template) => {
                    tracing::info!(template = %template.id, "template built");
                }
                Err(error) => tracing::error!(template = owned, %error, "template not built"),
            }
        });
        tasks.insert(name.to_owned(), task);
    }
}

impl Drop for Builds {
    fn drop(&mut self) {
        for task in self.0.get_mut().values() {
            task.abort();
        }
    }
}
