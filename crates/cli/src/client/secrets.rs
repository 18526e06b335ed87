//! Secrets, as a client sees them.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use soulbox_model::SecretValue;
use soulbox_wire::rest::BoundSecret;

use super::server::{Server, decode, encode, quote, retrying};
use crate::failure::{Failure, Result};

const MAX_PAGES: usize = 1000;

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
        let body = encode(&body)?;
        let path = format!("/soulbox/v1/secrets/{}", quote(name));
        let answer = retrying(|| self.send(Method::PUT, &path, Some(body.clone()), &[])).await?;
        decode(&answer)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// What the server says.
    pub async fn secrets(&self) -> Result<Vec<BoundSecret>> {
        let mut all = Vec::new();
        let mut path = "/soulbox/v1/secrets?limit=100".to_owned();
        for _ in 0..MAX_PAGES {
            let answer = retrying(|| self.send(Method::GET, &path, None, &[])).await?;
            all.append(&mut decode::<Vec<BoundSecret>>(&answer)?);
            let next = answer.headers.get("x-next-token").and_then(|value| value.to_str().ok());
            match next {
                Some(next) => {
                    path = format!("/soulbox/v1/secrets?limit=100&nextToken={}", quote(next));
                }
                None => return Ok(all),
            }
        }
        Err(Failure::Protocol("a list that does not end".into()))
    }

    /// Whether it was there to be deleted.
    ///
    /// # Errors
    /// What the server says, other than that it does not know the secret.
    pub async fn delete_secret(&self, name: &str) -> Result<bool> {
        let path = format!("/secrets/{}", quote(name));
        match retrying(|| self.send(Method::DELETE, &path, None, &[])).await {
            Ok(_) => Ok(true),
            Err(Failure::Answer { status: 404, .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
