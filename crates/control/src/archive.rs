//! What is kept for a while of sandboxes that ended: their logs and metrics.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use soulbox_model::{SandboxId, TeamId};
use tokio::time::Instant;

use crate::live::Live;

const KEEP: Duration = Duration::from_secs(3600);
const KEEP_AT_MOST: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Archive(Mutex<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    by_id: HashMap<SandboxId, Arc<Live>>,
    /// Oldest first.
    order: VecDeque<(Instant, SandboxId)>,
}

impl Archive {
    pub(crate) fn add(&self, live: Arc<Live>) {
        let mut shelves = self.0.lock();
        shelves.order.push_back((Instant::now(), live.id.clone()));
        shelves.by_id.insert(live.id.clone(), live);
        while shelves.order.len() > KEEP_AT_MOST {
            shelves.drop_oldest();
        }
    }

    pub(crate) fn of_team(&self, team: TeamId, id: &SandboxId) -> Option<Arc<Live>> {
        self.0.lock().by_id.get(id).filter(|live| live.team == team).cloned()
    }

    /// Forgets what is too old.
    pub(crate) fn prune(&self) {
        let mut shelves = self.0.lock();
        while shelves.order.front().is_some_and(|(at, _)| at.elapsed() > KEEP) {
            shelves.drop_oldest();
        }
    }
}

impl Shelves {
    fn drop_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.by_id.remove(&id);
        }
    }
}
