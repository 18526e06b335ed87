//! Templates, as a client sees them.

use std::time::Duration;

use http::Method;
use soulbox_wire::rest::{DerivedTemplate, PruneTemplates, PrunedTemplate, TemplateProgress};

use super::server::{Server, decode, encode, quote, retrying};
use crate::failure::Result;

impl Server {
    /// # Errors
    /// What the server says.
    pub async fn templates(&self) -> Result<Vec<TemplateProgress>> {
        self.read("/soulbox/v1/templates").await
    }

    /// Asks for a template to be built in the background; one that is ready stays.
    ///
    /// # Errors
    /// What the server says.
    pub async fn build_template(&self, name: &str) -> Result<TemplateProgress> {
        let path = format!("/soulbox/v1/templates/{}/build", quote(name));
        let answer = retrying(|| self.send(Method::POST, &path, None, &[])).await?;
        decode(&answer)
    }

    /// # Errors
    /// What the server says.
    pub async fn stop_build(&self, name: &str) -> Result<()> {
        let path = format!("/soulbox/v1/templates/{}/build", quote(name));
        self.send(Method::DELETE, &path, None, &[]).await.map(drop)
    }

    /// # Errors
    /// What the server says.
    pub async fn template(&self, name: &str) -> Result<TemplateProgress> {
        self.read(&format!("/soulbox/v1/templates/{}", quote(name))).await
    }

    /// Asks for a template that adds a layer to another one; the same is made only once.
    ///
    /// # Errors
    /// What the server says.
    pub async fn derive_template(&self, wanted: &DerivedTemplate) -> Result<TemplateProgress> {
        decode(&self.write(Method::POST, "/soulbox/v1/templates", wanted).await?)
    }

    /// # Errors
    /// What the server says.
    pub async fn prune_templates(&self, unused_for: Duration) -> Result<Vec<PrunedTemplate>> {
        let body = encode(&PruneTemplates { unused_for: Some(unused_for.as_secs()) })?;
        let path = "/soulbox/v1/templates/prune";
        decode(&self.send(Method::POST, path, Some(body), &[]).await?)
    }
}
