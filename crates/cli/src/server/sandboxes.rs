//! What the gateway asks of `control`.

use async_trait::async_trait;
use soulbox_control::Control;
use soulbox_engine::{Conduit, ConnectError, Target};
use soulbox_gateway::Sandboxes;
use soulbox_model::SandboxId;

/// Lets the gateway dial through `control`.
#[derive(Debug)]
pub(super) struct Dialer(pub Control);

#[async_trait]
impl Sandboxes for Dialer {
    async fn dial(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError> {
        self.0.dial(id, target).await
    }

    fn by_access_token(&self, token: &str) -> Option<SandboxId> {
        self.0.by_access_token(token)
    }
}
