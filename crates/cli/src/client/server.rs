//! The control plane, as a client sees it.

use std::{sync::Arc, time::Duration};

use http::Method;
use http_body_util::BodyExt;
use serde::{Serialize, de::DeserializeOwned};
use soulbox_model::{Port, RetryPolicy, SandboxId};
use soulbox_wire::rest::{
    DerivedTemplate, ListedSandbox, Metric, NetworkEvent, NewPortPass, NewSandboxV2, PortPass,
    PruneTemplates, PrunedTemplate, RequestRules, Sandbox, SandboxDetail, SandboxDomains,
    SandboxLogsV2, SandboxUsage, TemplateProgress,
};

use super::{
    Remote,
    http::{Answer, Http, empty, full},
};
use crate::failure::{Failure, Result};

/// How often the list asks for another page before it takes the server for broken.
const MAX_PAGES: usize = 10_000;

/// Bytes of one network event, or of an error in its place.
const LONGEST_EVENT: usize = 64 * 1024;

/// Whoever is told to come back later than that learns it at once.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A server and the key to it.
#[derive(Debug, Clone)]
pub struct Server {
    http: Arc<Http>,
    /// Where sandboxes are reached; usually the same listener.
    sandboxes: Arc<Http>,
    key: String,
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
        let path = format!("/v2/sandboxes?limit={limit}");
        decode(&retrying(|| self.send(Method::GET, &path, None, &[])).await?)
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
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut path = format!("/v2/sandboxes?limit=100&{filter}");
            if let Some(token) = &token {
                path += &format!("&nextToken={}", quote(token));
            }
            let answer = retrying(|| self.send(Method::GET, &path, None, &[])).await?;
            all.append(&mut decode::<Vec<ListedSandbox>>(&answer)?);
            token = answer
                .headers
                .get("x-next-token")
                .and_then(|value| value.to_str().ok())
                .filter(|value| !value.is_empty())
                .map(str::to_owned);
            if token.is_none() {
                return Ok(all);
            }
        }
        Err(Failure::Protocol("a list that does not end".into()))
    }

    /// Whether it was there to be ended.
    ///
    /// # Errors
    /// What the server says, other than that it does not know the sandbox.
    pub async fn kill(&self, id: &SandboxId) -> Result<bool> {
        let path = format!("/sandboxes/{id}");
        match retrying(|| self.send(Method::DELETE, &path, None, &[])).await {
            Ok(_) => Ok(true),
            Err(Failure::Answer { status: 404, .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
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

    /// Which requests the hosts of a sandbox get.
    ///
    /// # Errors
    /// What the server says.
    pub async fn requests(&self, id: &SandboxId) -> Result<RequestRules> {
        self.read(&format!("/soulbox/v1/sandboxes/{id}/requests")).await
    }

    /// Replaces them.
    ///
    /// # Errors
    /// What the server says.
    pub async fn put_requests(&self, id: &SandboxId, rules: &RequestRules) -> Result<()> {
        let body = encode(rules)?;
        let path = format!("/soulbox/v1/sandboxes/{id}/requests");
        retrying(|| self.send(Method::PUT, &path, Some(body.clone()), &[])).await.map(drop)
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
        let body = encode(wanted)?;
        let path = "/soulbox/v1/templates";
        let answer = retrying(|| self.send(Method::POST, path, Some(body.clone()), &[])).await?;
        decode(&answer)
    }

    /// # Errors
    /// What the server says.
    pub async fn prune_templates(&self, unused_for: Duration) -> Result<Vec<PrunedTemplate>> {
        let body = encode(&PruneTemplates { unused_for: Some(unused_for.as_secs()) })?;
        let path = "/soulbox/v1/templates/prune";
        decode(&self.send(Method::POST, path, Some(body), &[]).await?)
    }

    /// Where a port of a sandbox is reached.
    pub fn port_url(&self, id: &SandboxId, port: Port, domain: Option<&str>) -> String {
        let at = self.http.endpoint();
        let scheme = if at.tls { "https" } else { "http" };
        let authority = at.authority();
        let near = at.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let domain = match domain {
            Some(domain) => domain.to_owned(),
            // Browsers find every name below `localhost` on this machine.
            None if near => format!("localhost:{}", at.port),
            None => authority.strip_prefix("api.").unwrap_or(&authority).to_owned(),
        };
        format!("{scheme}://{port}-{id}.{domain}/")
    }

    /// # Errors
    /// What the server says.
    pub async fn port_pass(&self, id: &SandboxId, port: Port, seconds: i32) -> Result<PortPass> {
        let body = encode(&NewPortPass { port: port.get().into(), timeout: Some(seconds) })?;
        let path = format!("/soulbox/v1/sandboxes/{id}/passes");
        let answer = retrying(|| self.send(Method::POST, &path, Some(body.clone()), &[])).await?;
        decode(&answer)
    }

    /// Makes names lead to a port of a sandbox; they go with it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn set_domains(&self, id: &SandboxId, names: &[String], port: Port) -> Result<()> {
        let port = Some(port.get().into());
        let body = encode(&SandboxDomains { domains: names.to_vec(), port })?;
        let path = format!("/soulbox/v1/sandboxes/{id}/domains");
        retrying(|| self.send(Method::PUT, &path, Some(body.clone()), &[])).await.map(drop)
    }

    /// Where a name of a sandbox's own is reached, if DNS points it at the server.
    pub fn domain_url(&self, name: &str) -> String {
        let at = self.http.endpoint();
        let (scheme, usual) = if at.tls { ("https", 443) } else { ("http", 80) };
        if at.port == usual {
            format!("{scheme}://{name}/")
        } else {
            format!("{scheme}://{name}:{}/", at.port)
        }
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

    /// What a sandbox sent out, event by event as they come: the kept ones, and with `follow` all until
    /// its end.
    ///
    /// # Errors
    /// What the server says, or what `each` says.
    pub async fn network_events(
        &self,
        id: &SandboxId,
        follow: bool,
        mut each: impl FnMut(NetworkEvent) -> Result<()>,
    ) -> Result<()> {
        let path = format!("/soulbox/v1/sandboxes/{id}/network/events?follow={follow}");
        let request = self.http.request(Method::GET, &path).header("x-api-key", &self.key);
        let request =
            request.body(empty()).map_err(|error| Failure::usage(format!("request: {error}")))?;
        let (_connection, response) = self.http.send(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut unread = bytes::BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.http.unreachable(error))?;
            unread.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while status.is_success()
                && let Some(end) = unread.iter().position(|byte| *byte == b'\n')
            {
                let line = unread.split_to(end + 1);
                let event = serde_json::from_slice(&line);
                each(event.map_err(|error| Failure::Protocol(error.to_string()))?)?;
            }
            if unread.len() > LONGEST_EVENT {
                return Err(Failure::Protocol("a line that does not end".into()));
            }
        }
        if status.is_success() { Ok(()) } else { Err(Failure::answer(status.as_u16(), &unread)) }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = retrying(|| self.send(Method::GET, path, None, &[])).await?;
        decode(&answer)
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
