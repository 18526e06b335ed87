//! Secrets, as a client sees them.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use soulbox_model::SecretValue;
use soulbox_wire::rest::BoundSecret;

use super::server::{Server, decode, quote};
use crate::failure::Result;

impl Server {
    /// Makes or changes a secret; `None` leaves what is there.
    ///
    /// # Errors
    /// What the server says.
    pub async fn put_secret(
        &self,
        name: &str,
        value: Option<&SecretValue>,
        metadata: Option<&BTreeMap<String, String>>,
        hosts: Option<&[String]>,
    ) -> Result<BoundSecret> {
        let mut body = serde_json::Map::new();
        if let Some(value) = value {
            body.insert("value".into(), json!(value.expose()));
        }
        if let Some(metadata) = metadata {
            body.insert("metadata".into(), json!(metadata));
        }
        if let Some(hosts) = hosts {
            body.insert("hosts".into(), json!(hosts));
        }
        let path = format!("/soulbox/v1/secrets/{}", quote(name));
        decode(&self.write(Method::PUT, &path, &body).await?)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// What the server says.
    pub async fn secrets(&self) -> Result<Vec<BoundSecret>> {
        self.pages("/soulbox/v1/secrets?limit=100").await
    }

    /// Whether it was there to be deleted.
    ///
    /// # Errors
    /// What the server says, other than that it does not know the secret.
    pub async fn delete_secret(&self, name: &str) -> Result<bool> {
        self.remove(&format!("/secrets/{}", quote(name))).await
    }
}
