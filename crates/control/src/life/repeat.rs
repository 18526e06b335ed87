//! Requests that may come more than once: the same sandbox for each.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use soulbox_model::{Error, Result, TeamId};
use soulbox_store::{Idempotency, IdempotencyRow};
use tokio::sync::watch;

use crate::{
    core::Core,
    types::{Create, Sandbox},
};

/// How [`Error::Conflict`](soulbox_model::Error::Conflict) begins when an idempotency key comes with
/// another request than before.
pub const KEY_REUSED: &str = "this Idempotency-Key was used with another request";

const REQUEST_HASH: &str = "idempotent request";

type Name = (TeamId, String);

/// The idempotent requests under way.
#[derive(Debug, Default)]
pub(crate) struct Requests(Arc<Mutex<HashMap<Name, watch::Receiver<()>>>>);

/// The one request of its name that may make a sandbox; the others wait until it is dropped.
#[derive(Debug)]
pub(super) struct Lead {
    requests: Arc<Mutex<HashMap<Name, watch::Receiver<()>>>>,
    name: Name,
    _done: watch::Sender<()>,
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.name);
    }
}

impl Requests {
    /// Waits until no request of that name is under way, then takes the lead.
    async fn lead(&self, name: &Name) -> Lead {
        loop {
            let mut other = {
                let mut requests = self.0.lock();
                match requests.get(name) {
                    Some(other) => other.clone(),
                    None => {
                        let (done, other) = watch::channel(());
                        requests.insert(name.clone(), other);
                        let requests = Arc::clone(&self.0);
                        return Lead { requests, name: name.clone(), _done: done };
                    }
                }
            };
            // Fails when the lead is dropped, which is what this waits for.
            while other.changed().await.is_ok() {}
        }
    }
}

impl Core {
    pub(super) async fn create_once(
        self: &Arc<Self>,
        team: TeamId,
        request: Create,
        key: String,
    ) -> Result<Sandbox> {
        // Hashed with the secret: the request holds an environment, whose secrets must not be
        // guessed from the database.
        let text = serde_json::to_vec(&request)
            .map_err(|error| Error::internal("a request could not be hashed", error))?;
        let request_hash = self.store.secret().derive(REQUEST_HASH, &text);
        let lead = self.requests.lead(&(team, key.clone())).await;
        match self.store.find_idempotency(team, &key).await? {
            Some(known) => self.repeat(team, &request_hash, &known),
            None => {
                let idempotency = Idempotency { key, request_hash };
                self.make_for_caller(team, request, Some((lead, idempotency))).await
            }
        }
    }

    fn repeat(&self, team: TeamId, request_hash: &str, known: &IdempotencyRow) -> Result<Sandbox> {
        if request_hash != known.request_hash {
            return Err(Error::Conflict(format!("{KEY_REUSED}: use a new key")));
        }
        let live = self.running(team, &known.sandbox).map_err(|_| {
            Error::Conflict(format!(
                "sandbox `{}`, made with this Idempotency-Key, has ended: use a new key",
                known.sandbox
            ))
        })?;
        Ok(live.snapshot(self))
    }
}
