//! API keys: who a caller is.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use soulbox_model::{Error, Result, TeamId};
use soulbox_store::{ApiKey, KeyHash};
use uuid::Uuid;

use crate::{core::Core, types::Caller};

/// How long a key is believed without asking the store; another process may revoke it.
const BELIEVE: Duration = Duration::from_millis(900);
const NAME_CHARS: usize = 128;

/// Keys seen of late. Only valid ones: as many as the store has, however many are tried.
#[derive(Debug, Default)]
pub(crate) struct KeyCache {
    known: Mutex<HashMap<KeyHash, (Caller, Instant)>>,
    /// Uses that the store does not know yet.
    used: Mutex<HashMap<Uuid, DateTime<Utc>>>,
}

impl KeyCache {
    fn get(&self, hash: &KeyHash) -> Option<Caller> {
        let known = self.known.lock();
        known.get(hash).filter(|(_, at)| at.elapsed() < BELIEVE).map(|(caller, _)| *caller)
    }

    /// `asked_at`: before the store was asked, since the key may have been revoked since.
    fn put(&self, hash: KeyHash, caller: Caller, asked_at: Instant) {
        self.known.lock().insert(hash, (caller, asked_at));
    }

    fn forget(&self, id: Uuid) {
        self.known.lock().retain(|_, (caller, _)| caller.key_id != id);
    }
}

impl Core {
    pub(crate) async fn authenticate(&self, api_key: &str) -> Result<Caller> {
        let refused = |message: &str| Error::Authentication {
            method: "API key",
            message: message.into(),
            retry_after: None,
        };
        let hash = KeyHash::of(api_key)
            .ok_or_else(|| refused("the key is malformed: expected e2b_ and 40 hex digits"))?;
        let caller = match self.keys.get(&hash) {
            Some(caller) => caller,
            None => {
                let asked_at = Instant::now();
                let Some(key) = self.store.find_key(hash).await? else {
                    self.keys.known.lock().remove(&hash);
                    return Err(refused("the key is unknown or was revoked"));
                };
                let caller = Caller { team: key.team, key_id: key.id };
                self.keys.put(hash, caller, asked_at);
                caller
            }
        };
        self.keys.used.lock().insert(caller.key_id, Utc::now());
        Ok(caller)
    }

    /// Writes down when keys were used.
    pub(crate) async fn save_key_uses(&self) {
        let used: Vec<_> = self.keys.used.lock().iter().map(|(id, at)| (*id, *at)).collect();
        if used.is_empty() {
            return;
        }
        if let Err(error) = self.store.touch_keys(&used).await {
            tracing::warn!(%error, "could not note the use of API keys");
            return;
        }
        // Not before they are written: in between, a list of keys would lack them.
        let mut unsaved = self.keys.used.lock();
        for (id, at) in &used {
            if unsaved.get(id) == Some(at) {
                unsaved.remove(id);
            }
        }
    }

    pub(crate) async fn list_keys(&self, team: TeamId) -> Result<Vec<ApiKey>> {
        // Read first: what is saved in between is then in both.
        let used = self.keys.used.lock().clone();
        let mut keys = self.store.list_keys(team).await?;
        for key in &mut keys {
            key.last_used_at = key.last_used_at.max(used.get(&key.id).copied());
        }
        Ok(keys)
    }

    pub(crate) async fn revoke_key(&self, team: TeamId, id: Uuid) -> Result<()> {
        let revoked = self.store.revoke_key(team, id).await?;
        self.keys.forget(id);
        if revoked { Ok(()) } else { Err(Error::not_found("API key", id)) }
    }

    pub(crate) async fn rename_key(&self, team: TeamId, id: Uuid, name: &str) -> Result<()> {
        check_name(name)?;
        let renamed = self.store.rename_key(team, id, name).await?;
        if renamed { Ok(()) } else { Err(Error::not_found("API key", id)) }
    }
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    let valid = !name.trim().is_empty()
        && name.chars().count() <= NAME_CHARS
        && !name.chars().any(char::is_control);
    if valid {
        Ok(())
    } else {
        Err(Error::invalid("name", "must be 1 to 128 characters, without control characters"))
    }
}
