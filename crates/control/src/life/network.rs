//! What a sandbox may reach, changed while it runs.

use soulbox_model::{
    Result, SandboxId, TeamId,
    network::{Egress, Network},
};

use crate::core::Core;

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
        let live = self.running(team, id)?;
        let _turn = live.saving_network.lock().await;
        let network = Network { egress, ..live.network() };
        // Written first: after a crash between the two, the stricter or laxer policy that its owner
        // was promised comes back and not the one before.
        self.store.set_network(&live.id, &network, allow_internet).await?;
        live.set_network(network, allow_internet);
        Ok(())
    }
}
