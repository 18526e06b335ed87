//! Secrets that one sandbox's requests need, read for it a few at a time.
//!
//! A program inside decides how many requests there are, and everybody's keys are looked up in the same
//! store: what was read a moment ago is not read again, and few requests read at once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use soulbox_model::network::{Domain, SecretName};
use tokio::{sync::Semaphore, time::timeout};

use crate::{Held, Owner};

/// How long a secret counts as it was read; its owner may change it meanwhile.
const BELIEVE: Duration = Duration::from_millis(900);
/// Secrets that are read at the same time.
const READS: usize = 4;
/// How long a request waits for a secret.
const WITHIN: Duration = Duration::from_secs(10);
/// Said of all failures of ours alike: how the server fares is not the sandbox's matter.
const UNREADABLE: &str = "its secrets cannot be read now; try again in a moment";

pub(crate) struct Secrets {
    owner: Arc<dyn Owner>,
    /// Those that were asked for and are not there, too.
    known: Mutex<HashMap<SecretName, Read>>,
    reads: Semaphore,
}

struct Read {
    /// Before the store was asked: it may have changed since.
    at: Instant,
    held: Option<Arc<Held>>,
}

impl Read {
    fn counts(&self) -> bool {
        self.at.elapsed() < BELIEVE
    }
}

impl Secrets {
    pub(crate) fn new(owner: Arc<dyn Owner>) -> Self {
        Self { owner, known: Mutex::default(), reads: Semaphore::new(READS) }
    }

    /// `None` if there is no such secret.
    ///
    /// # Errors
    /// If that cannot be found out now.
    pub(crate) async fn find(&self, name: &SecretName) -> Result<Option<Arc<Held>>, String> {
        if let Some(held) = self.known(name) {
            return Ok(held);
        }
        timeout(WITHIN, self.read(name)).await.map_err(|_| UNREADABLE.to_owned())?
    }

    /// The secret, if it is there and its owner lets `host` have it.
    ///
    /// # Errors
    /// Why it must not be sent.
    pub(crate) async fn for_host(
        &self,
        name: &SecretName,
        host: &Domain,
    ) -> Result<Arc<Held>, String> {
        usable(self.find(name).await?, name, host)
    }

    async fn read(&self, name: &SecretName) -> Result<Option<Arc<Held>>, String> {
        let _turn = self.reads.acquire().await.map_err(|_| UNREADABLE.to_owned())?;
        // Another request may have read it while this one waited.
        if let Some(held) = self.known(name) {
            return Ok(held);
        }
        let at = Instant::now();
        let held = self.owner.secret(name).await?.map(Arc::new);
        let mut known = self.known.lock();
        // Values that count no more go with the next look-up.
        known.retain(|_, read| read.counts());
        known.insert(name.clone(), Read { at, held: held.clone() });
        Ok(held)
    }

    fn known(&self, name: &SecretName) -> Option<Option<Arc<Held>>> {
        let known = self.known.lock();
        known.get(name).filter(|read| read.counts()).map(|read| read.held.clone())
    }
}

/// # Errors
/// Why `host` must not get it.
pub(crate) fn usable(
    held: Option<Arc<Held>>,
    name: &SecretName,
    host: &Domain,
) -> Result<Arc<Held>, String> {
    let held = held.ok_or_else(|| format!("secret `{name}` does not exist"))?;
    if held.may_go_to(host) {
        Ok(held)
    } else {
        Err(format!("no permission to send secret `{name}` to {host}: it is bound to other hosts"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use soulbox_model::SecretValue;

    use super::*;
    use crate::Denial;

    /// Takes its time, and counts.
    #[derive(Default)]
    struct Slow {
        reads: AtomicUsize,
        now: AtomicUsize,
        most: AtomicUsize,
        broken: bool,
    }

    #[async_trait]
    impl Owner for Slow {
        fn denied(&self, _: Denial) {}

        async fn secret(&self, name: &SecretName) -> Result<Option<Held>, String> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            if self.broken {
                return Err("busy".to_owned());
            }
            let value = SecretValue::new(format!("value of {name}"))?;
            let held = Held { value, hosts: vec!["api.example.com".parse()?] };
            Ok((name.as_str() != "absent").then_some(held))
        }
    }

    fn name(text: &str) -> SecretName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn many_requests_read_a_secret_once_in_a_while() {
        let owner = Arc::new(Slow::default());
        let secrets = Secrets::new(Arc::clone(&owner) as Arc<dyn Owner>);
        for _ in 0..50 {
            let held = secrets.find(&name("key")).await.unwrap().unwrap();
            assert_eq!(held.value.expose(), "value of key");
            assert!(secrets.find(&name("absent")).await.unwrap().is_none());
        }
        assert_eq!(owner.reads.load(Ordering::SeqCst), 2);
        tokio::time::sleep(BELIEVE).await;
        secrets.find(&name("key")).await.unwrap();
        assert_eq!(owner.reads.load(Ordering::SeqCst), 3);
        assert_eq!(secrets.known.lock().len(), 1, "what no longer counts is forgotten");
    }

    #[tokio::test]
    async fn few_are_read_at_a_time() {
        let owner = Arc::new(Slow::default());
        let secrets = Arc::new(Secrets::new(Arc::clone(&owner) as Arc<dyn Owner>));
        let mut all = tokio::task::JoinSet::new();
        for number in 0..40 {
            let secrets = Arc::clone(&secrets);
            all.spawn(async move { secrets.find(&name(&format!("key{}", number % 20))).await });
        }
        assert!(all.join_all().await.into_iter().all(|found| found.unwrap().is_some()));
        assert_eq!(owner.most.load(Ordering::SeqCst), READS);
        assert!(owner.reads.load(Ordering::SeqCst) <= 20 * READS);
    }

    #[tokio::test]
    async fn a_failure_is_no_absence_and_is_not_kept() {
        let owner = Arc::new(Slow { broken: true, ..Slow::default() });
        let secrets = Secrets::new(Arc::clone(&owner) as Arc<dyn Owner>);
        for _ in 0..2 {
            assert_eq!(secrets.find(&name("key")).await.unwrap_err(), "busy");
        }
        assert_eq!(owner.reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_host_gets_what_is_bound_to_it() {
        let secrets = Secrets::new(Arc::new(Slow::default()));
        let ask = async |secret: &str, host: &str| {
            let found = secrets.for_host(&name(secret), &host.parse().unwrap()).await;
            found.map(|held| held.value.expose().to_owned())
        };
        assert_eq!(ask("key", "api.example.com").await.unwrap(), "value of key");
        let refused = ask("key", "www.example.com").await.unwrap_err();
        assert!(refused.contains("secret `key` to www.example.com"), "{refused}");
        assert!(ask("absent", "api.example.com").await.unwrap_err().contains("does not exist"));
    }
}
