//! What a sandbox may reach: its way out opened, and changed while it runs.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use http::{Request, header};
use serde_json::json;
use soulbox_egress::{Authority, Denial, Held, Owner, Part, READERS, Reader, Relay, Wire};
use soulbox_engine::Error as EngineError;
use soulbox_model::{
    BoxError, Error, Result, SandboxId, TeamId,
    network::{BytesUsed, Demands, Egress, Network, SecretName},
};
use soulbox_store::Store;
use tokio::{
    sync::{MutexGuard, watch},
    time::timeout,
};

use crate::{
    agent,
    core::Core,
    live::{Ending, Live},
    secrets::Secrets,
};

/// How long an agent may take to trust another authority.
const TRUSTS_WITHIN: Duration = Duration::from_secs(5);

impl Core {
    /// `allow_internet` of `None` leaves what is told of that flag.
    pub(crate) async fn set_egress(
        &self,
        team: TeamId,
        id: &SandboxId,
        egress: Egress,
        allow_internet: Option<bool>,
    ) -> Result<()> {
        egress.check()?;
        self.check_egress(team, &egress).await?;
        let live = self.running(team, id)?;
        let _turn = live.saving_network.lock().await;
        let before = live.network().egress;
        let grants = before.grants.clone();
        let egress = Egress { grants, ..egress.with(before.demands()) };
        self.change_egress(&live, egress, allow_internet).await
    }

    /// What the rules themselves cannot say of what they name.
    pub(crate) async fn check_egress(&self, team: TeamId, egress: &Egress) -> Result<()> {
        self.egress.check(egress).map_err(|(field, why)| Error::invalid(field, why))?;
        self.secrets().check_egress(team, egress).await
    }

    /// Replaces what says which requests hosts get, and leaves the rest.
    pub(crate) async fn set_requests(
        &self,
        team: TeamId,
        id: &SandboxId,
        demands: Demands,
    ) -> Result<()> {
        let live = self.running(team, id)?;
        let _turn = live.saving_network.lock().await;
        let egress = live.network().egress.with(demands);
        egress.check()?;
        self.change_egress(&live, egress, None).await
    }

    /// Which requests hosts get.
    pub(crate) fn requests(&self, team: TeamId, id: &SandboxId) -> Result<Demands> {
        Ok(self.running(team, id)?.network().egress.demands())
    }

    /// What went out of a sandbox, from event number `since` on; of one that has ended for a while, too.
    pub(crate) fn traffic(
        &self,
        team: TeamId,
        id: &SandboxId,
        since: u64,
        follow: bool,
    ) -> Result<TrafficReader> {
        let live = self.registry.of_team(team, id).or_else(|| self.archive.of_team(team, id));
        let live = live.ok_or_else(|| Error::not_found("sandbox", id))?;
        let events = live.traffic.read(since, follow).ok_or_else(|| Error::ResourceLimit {
            resource: "readers of a sandbox's network events".into(),
            current: READERS,
            limit: READERS,
        })?;
        Ok(TrafficReader { events, ending: live.ending.subscribe() })
    }

    /// To be called with the sandbox's turn to save.
    async fn change_egress(
        &self,
        live: &Live,
        egress: Egress,
        allow_internet: Option<bool>,
    ) -> Result<()> {
        if egress.opens_any() && live.authority().is_none() {
            self.give_authority(live).await?;
        }
        let network = Network { egress, ..live.network() };
        let limited = |used: &BytesUsed| {
            network.egress.bytes.iter().any(|limit| limit.destination == used.destination)
        };
        let used: Vec<_> = live.traffic.used().into_iter().filter(limited).collect();
        // Written first: after a crash between the two, the stricter or laxer policy that its owner
        // was promised comes back and not the one before.
        self.store.set_network(&live.id, &network, allow_internet, &used).await?;
        live.govern(network.egress.clone());
        live.set_network(network, allow_internet);
        Ok(())
    }

    /// Writes down what sandboxes used more of their limits of bytes, for the next server.
    pub(crate) async fn save_traffic(&self) {
        let all = self.registry.all();
        let news: Vec<_> = all.iter().filter_map(|live| used_more(live)).collect();
        let rows: Vec<_> = news
            .iter()
            .flat_map(|(live, used, _)| used.iter().map(|used| (&live.id, used)))
            .collect();
        match self.store.save_bytes(&rows).await {
            Ok(()) => news.iter().for_each(|(live, used, _turn)| live.traffic.saved(used)),
            Err(error) => tracing::warn!(%error, "could not note what sandboxes sent out"),
        }
    }

    /// What a sandbox trusts beside what its template does.
    pub(crate) fn trusted(&self, own: Option<&str>) -> Option<String> {
        match (&self.trusted, own) {
            (None, None) => None,
            (operator, own) => {
                Some(format!("{}{}", operator.as_deref().unwrap_or(""), own.unwrap_or("")))
            }
        }
    }

    /// Makes a sandbox that runs trust an authority of its own.
    async fn give_authority(&self, live: &Live) -> Result<()> {
        let failed = |e: BoxError| Error::internal("the sandbox could not be told of its CA", e);
        let authority = Authority::new().map_err(|e| failed(e.into()))?;
        let told = self.tell_trusted(live, authority.certificate());
        let told = timeout(TRUSTS_WITHIN, told).await.map_err(|e| failed(e.into()))?;
        told.map_err(failed)?;
        self.store.set_authority(&live.id, &authority.to_pem()).await?;
        live.set_authority(Arc::new(authority));
        Ok(())
    }

    async fn tell_trusted(&self, live: &Live, certificate: &str) -> Result<(), BoxError> {
        let mut settings = json!({"caBundle": self.trusted(Some(certificate))});
        // Left out, it would be taken away.
        if let Some(token) = &live.access_token {
            settings["accessToken"] = token.as_str().into();
        }
        // It sets what is the same the second time.
        let request = Request::post("/init")
            .header(header::HOST, "sandbox")
            .header(header::CONTENT_TYPE, "application/json")
            .body(settings.to_string().into())?;
        Ok(agent::ask(&*self.engine, &live.id, &request, 4096).await.map(drop)?)
    }

    /// Opens the way out of a sandbox under its policy. Where that fails it reaches nothing, which its
    /// log says; it runs all the same. Of an engine that has none, nothing is said.
    pub(crate) async fn open_way_out(&self, live: &Arc<Live>) {
        let wire = self.engine.wire(&live.id).await;
        if let Err(EngineError::Unsupported(reason)) = &wire {
            tracing::debug!(sandbox = %live.id, reason, "no way out");
            return;
        }
        let opened = async {
            let wire = wire.map_err(|error| error.to_string())?;
            let wire = ends(wire);
            let owner = OwnerOf { live: Arc::downgrade(live), store: self.store.clone() };
            self.egress
                .open(
                    wire,
                    live.network().egress,
                    live.authority(),
                    Arc::clone(&live.traffic),
                    Arc::new(owner),
                )
                .map_err(|error| error.to_string())
        };
        match opened.await {
            Ok(gate) => {
                live.set_gate(Some(gate));
                // It may have been changed meanwhile.
                live.govern(live.network().egress);
            }
            Err(reason) => {
                tracing::warn!(sandbox = %live.id, reason, "a sandbox has no network");
                let text = "no network: the way out could not be opened";
                let fields = [("event", "network"), ("reason", reason.as_str())];
                live.journal.note(crate::types::Level::Error, text, &fields);
            }
        }
    }
}

/// What a sandbox used since that was written down, and its turn to write. Who changes its rules at this
/// moment writes that, too.
fn used_more(live: &Live) -> Option<(&Live, Vec<BytesUsed>, MutexGuard<'_, ()>)> {
    let turn = live.saving_network.try_lock().ok()?;
    let used = live.traffic.unsaved();
    (live.is_running() && !used.is_empty()).then_some((live, used, turn))
}

/// Reads what goes out of a sandbox, until its end.
#[derive(Debug)]
pub struct TrafficReader {
    events: Reader,
    ending: watch::Receiver<Ending>,
}

impl TrafficReader {
    /// At most `most` events that are there already.
    pub fn part(&mut self, most: usize) -> Part {
        self.events.part(most)
    }

    /// Waits until there is more; `false` if the sandbox has ended, after which one more look finds
    /// all that there is.
    pub async fn more(&mut self) -> bool {
        tokio::select! {
            _ = self.ending.wait_for(|ending| *ending == Ending::Done) => false,
            () = self.events.more() => true,
        }
    }
}

/// What an engine hands over, as who serves it takes it.
pub(crate) fn ends(wire: soulbox_engine::Wire) -> Wire {
    let relay = wire.relay;
    let relay = Relay { socket: relay.socket, answers: relay.answers, doors: relay.doors };
    Wire { tcp: wire.tcp, udp: wire.udp, relay, steering: wire.steering }
}

/// The team that a sandbox belongs to, on its way out.
struct OwnerOf {
    live: Weak<Live>,
    store: Store,
}

#[async_trait]
impl Owner for OwnerOf {
    fn denied(&self, denial: Denial) {
        let Some(live) = self.live.upgrade() else { return };
        let Denial { protocol, target, reason } = denial;
        tracing::debug!(sandbox = %live.id, protocol, target, reason, "refused");
        live.journal.refusal(
            &format!("network: refused {target}: {reason}"),
            &[("event", "denied"), ("protocol", protocol), ("target", &target)],
        );
    }

    async fn secret(&self, name: &SecretName) -> Result<Option<Held>, String> {
        let (team, id) = {
            let live = self.live.upgrade().ok_or("the sandbox has ended")?;
            (live.team, live.id.clone())
        };
        let held = Secrets::new(&self.store).held(team, name).await;
        held.map_err(|error| {
            tracing::warn!(sandbox = %id, secret = %name, %error, "a secret cannot be read");
            format!("secret `{name}` cannot be read now; try again in a moment")
        })
    }
}
