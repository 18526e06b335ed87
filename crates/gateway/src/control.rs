//! The sandboxes of this server.

use async_trait::async_trait;
use soulbox_control::Control;
use soulbox_engine::{Conduit, ConnectError, Target};
use soulbox_model::SandboxId;

use crate::Sandboxes;

#[async_trait]
impl Sandboxes for Control {
    async fn dial(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError> {
        Self::dial(self, id, target).await
    }

    fn by_access_token(&self, token: &str) -> Option<SandboxId> {
        Self::by_access_token(self, token)
    }
}
