//! What a sandbox may reach: its way out opened, and changed while it runs.

use std::sync::{Arc, Weak};

use soulbox_egress::{Denial, Observer, Wire};
use soulbox_model::{
    Result, SandboxId, TeamId,
    network::{Egress, Network},
};

use crate::{core::Core, live::Live};

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
        self.secrets().check_egress(team, &egress).await?;
        let live = self.running(team, id)?;
        let _turn = live.saving_network.lock().await;
        let network = Network { egress, ..live.network() };
        // Written first: after a crash between the two, the stricter or laxer policy that its owner
        // was promised comes back and not the one before.
        self.store.set_network(&live.id, &network, allow_internet).await?;
        live.govern(network.egress.clone());
        live.set_network(network, allow_internet);
        Ok(())
    }

    /// Opens the way out of a sandbox under its policy. Without one it reaches nothing, which its log
    /// says; it runs all the same.
    pub(crate) async fn open_way_out(&self, live: &Arc<Live>) {
        let opened = async {
            let wire = self.engine.wire(&live.id).await.map_err(|error| error.to_string())?;
            let wire = Wire { tcp: wire.tcp, udp: wire.udp, steering: wire.steering };
            let observer = Arc::new(Noted(Arc::downgrade(live)));
            self.egress
                .open(wire, live.network().egress, observer)
                .map_err(|error| error.to_string())
        };
        match opened.await {
            Ok(gate) => live.set_gate(Some(gate)),
            Err(reason) => {
                tracing::warn!(sandbox = %live.id, reason, "a sandbox has no network");
                let text = "no network: the way out could not be opened";
                let fields = [("event", "network"), ("reason", reason.as_str())];
                live.journal.note(crate::types::Level::Error, text, &fields);
            }
        }
    }
}

/// Notes in a sandbox's log what it was refused.
struct Noted(Weak<Live>);

impl Observer for Noted {
    fn denied(&self, denial: Denial) {
        let Some(live) = self.0.upgrade() else { return };
        let Denial { protocol, target, reason } = denial;
        tracing::debug!(sandbox = %live.id, protocol, target, reason, "refused");
        live.journal.refusal(
            &format!("network: refused {target}: {reason}"),
            &[("event", "denied"), ("protocol", protocol), ("target", &target)],
        );
    }
}
