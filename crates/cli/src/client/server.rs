//! The control plane, as a client sees it.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde::{Serialize, de::DeserializeOwned};
use soulbox_model::{RetryPolicy, SandboxId};
use soulbox_wire::rest::{
    ListedSandbox, Metric, NewSandboxV2, Sandbox, SandboxDetail, SandboxLogsV2, SandboxUsage,
};

use super::{
    Remote,
    http::{Answer, Http, empty, full},
};
use crate::failure::{Failure, Result};

/// How often the list asks for another page before it takes the server for broken.
const MAX_PAGES: usize = 10_000;

/// Whoever is told to come back later than that learns it at once.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A server and the key to it.
#[derive(Debug, Clone)]
pub struct Server {
    pub(super) http: Arc<Http>,
    /// Where sandboxes are reached; usually the same listener.
    sandboxes: Arc<Http>,
    pub(super) key: String,
}

impl Server {
    pub fn new(http: Arc<Http>, sandboxes: Arc<Http>, key: String) -> Self {
        Self { http, sandboxes, key }
    }

    pub fn url(&self) -> String {
        self.http.endpoint().to_string()
    }

    /// The API key that requests carry.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Makes a sandbox. Repeats a failed request only under an idempotency key. With
    /// `env_secrets`, `$NAME` in its environment is a secret.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create(
        &self,
        new: &NewSandboxV2,
        idempotency_key: Option<&str>,
        env_secrets: bool,
    ) -> Result<Sandbox> {
        let body = encode(new)?;
        let mut headers = Vec::new();
        headers.extend(idempotency_key.map(|key| ("idempotency-key", key)));
        headers.extend(env_secrets.then_some(("soulbox-env-secrets", "resolve")));
        let once = || self.send(Method::POST, "/v2/sandboxes", Some(body.clone()), &headers);
        let answer = match idempotency_key {
            Some(_) => retrying(once).await?,
            None => once().await?,
        };
        decode(&answer)
    }

    /// # Errors
    /// What the server says.
    pub async fn get(&self, id: &SandboxId) -> Result<SandboxDetail> {
        self.read(&format!("/sandboxes/{id}")).await
    }

    /// The first sandboxes that run, at most `limit`.
    ///
    /// # Errors
    /// What the server says.
    pub async fn page(&self, limit: u32) -> Result<Vec<ListedSandbox>> {
        self.read(&format!("/v2/sandboxes?limit={limit}")).await
    }

    /// All sandboxes that match, page by page.
    ///
    /// # Errors
    /// What the server says.
    pub async fn list(
        &self,
        metadata: &[(String, String)],
        state: &str,
    ) -> Result<Vec<ListedSandbox>> {
        let mut filter = format!("state={}", quote(state));
        if !metadata.is_empty() {
            // The server decodes the list as a whole, twice, and then each part of it.
            let twice = |text: &str| quote(&quote(text));
            let pairs: Vec<String> =
                metadata.iter().map(|(k, v)| format!("{}={}", twice(k), twice(v))).collect();
            filter += &format!("&metadata={}", quote(&pairs.join("&")));
        }
        self.pages(&format!("/v2/sandboxes?limit=100&{filter}")).await
    }

    /// Whether it was there to be ended.
    ///
    /// # Errors
    /// What the server says, other than that it does not know the sandbox.
    pub async fn kill(&self, id: &SandboxId) -> Result<bool> {
        self.remove(&format!("/sandboxes/{id}")).await
    }

    /// What a sandbox has used since its start.
    ///
    /// # Errors
    /// What the server says.
    pub async fn usage(&self, id: &SandboxId) -> Result<SandboxUsage> {
        self.read(&format!("/soulbox/v1/sandboxes/{id}/usage")).await
    }

    /// # Errors
    /// What the server says.
    pub async fn metrics(&self, id: &SandboxId) -> Result<Vec<Metric>> {
        self.read(&format!("/sandboxes/{id}/metrics")).await
    }

    /// Lines from `since` (milliseconds since 1970) or from the start on, oldest first.
    ///
    /// # Errors
    /// What the server says.
    pub async fn logs(
        &self,
        id: &SandboxId,
        since: Option<i64>,
        level: Option<&str>,
        search: Option<&str>,
    ) -> Result<SandboxLogsV2> {
        let mut path = format!("/v2/sandboxes/{id}/logs?direction=forward&limit=1000");
        if let Some(since) = since {
            path += &format!("&cursor={since}");
        }
        if let Some(level) = level {
            path += &format!("&level={level}");
        }
        if let Some(search) = search {
            path += &format!("&search={}", quote(search));
        }
        self.read(&path).await
    }

    /// The agent of a live sandbox.
    ///
    /// # Errors
    /// What the server says; not found also for an ended sandbox.
    pub async fn remote(&self, id: &SandboxId) -> Result<Remote> {
        let detail = self.get(id).await?;
        Ok(self.remote_with(id, detail.envd_access_token))
    }

    /// The agent of a sandbox whose token is known.
    pub fn remote_with(&self, id: &SandboxId, token: Option<String>) -> Remote {
        Remote::new(Arc::clone(&self.sandboxes), id.clone(), token)
    }

    /// A `GET`.
    pub(super) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = retrying(|| self.send(Method::GET, path, None, &[])).await?;
        decode(&answer)
    }

    /// All of a list whose first page is at `path`, which has a query.
    pub(super) async fn pages<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let mut all = Vec::new();
        let mut next = path.to_owned();
        for _ in 0..MAX_PAGES {
            let answer = retrying(|| self.send(Method::GET, &next, None, &[])).await?;
            all.append(&mut decode::<Vec<T>>(&answer)?);
            let token = answer.headers.get("x-next-token").and_then(|value| value.to_str().ok());
            match token.filter(|token| !token.is_empty()) {
                Some(token) => next = format!("{path}&nextToken={}", quote(token)),
                None => return Ok(all),
            }
        }
        Err(Failure::Protocol("a list that does not end".into()))
    }

    /// A `DELETE`, and whether there was something to delete.
    pub(super) async fn remove(&self, path: &str) -> Result<bool> {
        match retrying(|| self.send(Method::DELETE, path, None, &[])).await {
            Ok(_) => Ok(true),
            Err(Failure::Answer { status: 404, .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// A request with a body, which may be repeated.
    pub(super) async fn write(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer> {
        let body = encode(body)?;
        retrying(|| self.send(method.clone(), path, Some(body.clone()), &[])).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<bytes::Bytes>,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut request = self.http.request(method, path).header("x-api-key", &self.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match body {
            Some(body) => {
                request.header(http::header::CONTENT_TYPE, "application/json").body(full(body))
            }
            None => request.body(empty()),
        };
        let request = request.map_err(|error| Failure::usage(format!("request: {error}")))?;
        let answer = self.http.call(request).await?;
        if (200..300).contains(&answer.status) {
            Ok(answer)
        } else {
            Err(Failure::answer(answer.status, &answer.body))
        }
    }
}

/// Repeats what may be repeated, as the platform's policy says.
pub(super) async fn retrying<T, Fut>(mut operation: impl FnMut() -> Fut) -> Result<T>
where
    Fut: Future<Output = Result<T>>,
{
    let policy = RetryPolicy::default();
    for bound in policy.delays() {
        match operation().await {
            Err(failure) if failure.retry().worthwhile => {
                let delay = failure.retry().after.unwrap_or_else(|| jitter(bound));
                if delay > LONGEST_WAIT {
                    return Err(failure);
                }
                tracing::debug!(%failure, ?delay, "trying again");
                tokio::time::sleep(delay).await;
            }
            done => return done,
        }
    }
    operation().await
}

fn jitter(bound: Duration) -> Duration {
    bound.mul_f64(rand::random::<f64>())
}

pub(super) fn encode(body: &impl Serialize) -> Result<bytes::Bytes> {
    serde_json::to_vec(body)
        .map(Into::into)
        .map_err(|error| Failure::usage(format!("request: {error}")))
}

pub(super) fn decode<T: DeserializeOwned>(answer: &Answer) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|error| Failure::Protocol(error.to_string()))
}

/// Percent-encoded for a query or a path segment.
pub fn quote(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
