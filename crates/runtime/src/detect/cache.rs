//! Answers that are kept until a file changes that they could depend on.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{DetectError, Detection, decide, tree::Tree, watch::Watches};

/// Directories that are remembered; the one that was asked for least lately goes first.
pub const CAPACITY: usize = 64;

/// Remembers answers by directory.
///
/// Every directory that an answer came from is watched, so that a remembered answer costs no look at the
/// project. Where the kernel watches no more, nothing is remembered.
#[derive(Debug, Default)]
pub struct Detector {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<PathBuf, Answer>,
    watches: Option<Watches>,
    next: u64,
    clock: u64,
}

#[derive(Debug)]
struct Answer {
    owner: u64,
    used: u64,
    detection: Arc<Detection>,
}

impl Detector {
    pub fn new() -> Self {
        Self::default()
    }

    /// Which runtime `directory` is for.
    ///
    /// # Errors
    /// When it is no directory that can be read.
    pub fn detect(&self, directory: &Path) -> Result<Arc<Detection>, DetectError> {
        let mut state = self.state.lock();
        state.drop_changed();
        state.clock += 1;
        let now = state.clock;
        if let Some(answer) = state.answers.get_mut(directory) {
            answer.used = now;
            return Ok(Arc::clone(&answer.detection));
        }
        state.look(directory, now)
    }

    /// How many directories are remembered.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.state.lock().answers.len()
    }
}

impl State {
    fn drop_changed(&mut self) {
        let Some(watches) = &mut self.watches else { return };
        match watches.changed() {
            Some(changed) if changed.is_empty() => {}
            Some(changed) => {
                self.answers.retain(|_, answer| !changed.contains(&answer.owner));
                for owner in changed {
                    watches.forget(owner);
                }
            }
            None => {
                self.answers.clear();
                self.watches = None;
            }
        }
    }

    fn look(&mut self, directory: &Path, now: u64) -> Result<Arc<Detection>, DetectError> {
        let failed = |source| DetectError { path: directory.to_owned(), source };
        self.next += 1;
        let owner = self.next;
        if self.watches.is_none() {
            self.watches = Watches::new().ok();
        }
        // Watched before it is listed: what changes meanwhile is seen.
        let mut watched = self.watches.is_some();
        let mut watches = self.watches.take();
        let tree = Tree::read(directory, &mut |folder| {
            let added = watches.as_mut().map(|watches| watches.add(folder, owner));
            watched &= matches!(added, Some(Ok(())));
        });
        self.watches = watches;
        let tree = match tree {
            Ok(tree) => tree,
            Err(error) => {
                self.forget(owner);
                return Err(failed(error));
            }
        };
        let detection = Arc::new(decide(&tree));
        // A link that is no link of a directory leads to where nothing is watched.
        if watched {
            self.make_room();
            let answer = Answer { owner, used: now, detection: Arc::clone(&detection) };
            self.answers.insert(directory.to_owned(), answer);
        } else {
            self.forget(owner);
        }
        Ok(detection)
    }

    fn make_room(&mut self) {
        while self.answers.len() >= CAPACITY {
            let oldest = self.answers.iter().min_by_key(|(_, answer)| answer.used);
            let Some((path, owner)) = oldest.map(|(path, answer)| (path.clone(), answer.owner))
            else {
                return;
            };
            self.answers.remove(&path);
            self.forget(owner);
        }
    }

    fn forget(&mut self, owner: u64) {
        if let Some(watches) = &mut self.watches {
            watches.forget(owner);
        }
    }
}
