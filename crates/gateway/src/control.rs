//! The sandboxes of this server.

use std::sync::Arc;

use async_trait::async_trait;
use soulbox_control::{Control, PortAccess};
use soulbox_engine::{Conduit, ConnectError, Target};
use soulbox_model::{Port, SandboxId};

use crate::Sandboxes;

#[async_trait]
impl Sandboxes for Control {
    async fn dial(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError> {
        Self::dial(self, id, target).await
    }

    fn port_access(&self, id: &SandboxId) -> Option<Arc<PortAccess>> {
        Self::port_access(self, id)
    }

    fn by_access_token(&self, token: &str) -> Option<SandboxId> {
        Self::by_access_token(self, token)
    }

    fn by_fitting_token(&self, fits: &dyn Fn(&str) -> bool) -> Option<SandboxId> {
        Self::by_fitting_token(self, fits)
    }

    fn by_domain(&self, name: &str) -> Option<(SandboxId, Port)> {
        Self::by_domain(self, name)
    }
}
