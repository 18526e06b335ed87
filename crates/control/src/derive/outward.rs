//! The way out of a sandbox in which something is prepared.
//!
//! It reaches what every sandbox may reach, and no secret. What it trusts for that lies where it is gone
//! before the layer is kept: templates outlive what the operator trusts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use soulbox_egress::{Denial, Gate, Held, Owner, Service};
use soulbox_engine::Engine;
use soulbox_model::{
    BoxError, SandboxId,
    network::{Egress, SecretName},
};

use super::agent::Agent;
use crate::life::ends;

/// The operator's certificates alone, and with those of the template.
const ADDED: &str = "/tmp/.soulbox-added.pem";
const BUNDLE: &str = "/tmp/.soulbox-bundle.pem";
const COMPOSE: &str = "cat /etc/ssl/certs/ca-certificates.crt \"$0\" >\"$1\" 2>/dev/null; \
                       chmod 644 \"$0\" \"$1\"";
const SHORT: Duration = Duration::from_secs(60);
/// What is told of refusals.
const MAX_REFUSALS: usize = 3;
/// Refusals of one preparation that the log has by default; more would be a way to fill it.
const LOGGED: usize = 20;

/// Lets preparations out.
#[derive(Debug, Clone)]
pub struct Outward {
    pub egress: Arc<Service>,
    /// Certificates in PEM that sandboxes trust beside those of their template.
    pub trusted: Option<String>,
}

/// A way out while it is open.
#[derive(Debug)]
pub(super) struct Opened {
    _gate: Gate,
    errand: Arc<Errand>,
    /// Where programs learn of what to trust.
    pub(super) env: BTreeMap<String, String>,
}

/// In nobody's name: only what was refused is heard.
#[derive(Debug)]
struct Errand {
    sandbox: SandboxId,
    template: String,
    count: AtomicUsize,
    first: Mutex<Vec<String>>,
}

impl Outward {
    /// Opens the way out of a sandbox that runs.
    pub(super) async fn open(
        &self,
        engine: &dyn Engine,
        id: &SandboxId,
        agent: &Agent<'_>,
        template: &str,
    ) -> Result<Opened, BoxError> {
        let wire = engine.wire(id).await?;
        let (errand, traffic) = (Arc::new(Errand::new(id, template)), Arc::default());
        let (egress, owner) = (Egress::default(), Arc::clone(&errand) as _);
        let gate = self.egress.open(ends(wire), egress, None, traffic, owner)?;
        let env = match &self.trusted {
            None => BTreeMap::new(),
            Some(pem) => {
                agent.write(pem.clone().into(), ADDED).await?;
                agent.run("root", &["sh", "-c", COMPOSE, ADDED, BUNDLE], SHORT).await?;
                trusting()
            }
        };
        Ok(Opened { _gate: gate, errand, env })
    }
}

fn trusting() -> BTreeMap<String, String> {
    let bundle = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"];
    let added = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];
    let bundle = bundle.into_iter().map(|name| (name, BUNDLE));
    let all = bundle.chain(added.into_iter().map(|name| (name, ADDED)));
    all.map(|(name, file)| (name.to_owned(), file.to_owned())).collect()
}

impl Opened {
    /// How many connections were refused so far.
    pub(super) fn refusals(&self) -> usize {
        self.errand.count.load(Ordering::Relaxed)
    }

    /// The first of them in words, each on a line of its own.
    pub(super) fn told(&self) -> String {
        self.errand.first.lock().iter().map(|line| format!("\n{line}")).collect()
    }
}

impl Errand {
    fn new(sandbox: &SandboxId, template: &str) -> Self {
        let (count, first) = (AtomicUsize::new(0), Mutex::default());
        Self { sandbox: sandbox.clone(), template: template.to_owned(), count, first }
    }
}

#[async_trait]
impl Owner for Errand {
    fn denied(&self, denial: Denial) {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        let Denial { protocol, target, reason } = denial;
        let target: String = target.chars().take(200).collect();
        let (sandbox, template) = (&self.sandbox, self.template.as_str());
        if before < LOGGED {
            tracing::info!(%sandbox, template, protocol, target, reason, "refused to a preparation");
        } else {
            tracing::debug!(%sandbox, template, protocol, target, reason, "refused to a preparation");
        }
        let line = format!("network: refused {target}: {reason}");
        let mut first = self.first.lock();
        if first.len() < MAX_REFUSALS && !first.contains(&line) {
            first.push(line);
        }
    }

    async fn secret(&self, _: &SecretName) -> Result<Option<Held>, String> {
        Err("nothing that is prepared gets secrets".into())
    }
}
