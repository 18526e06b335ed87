//! What goes into a sandbox and out of it, as a client sees it.

use http::Method;
use http_body_util::BodyExt;
use soulbox_model::{Port, SandboxId};
use soulbox_wire::rest::{
    NetworkEvent, NetworkUpdate, NewPortPass, PortPass, RequestRules, SandboxDomains,
};

use super::{
    http::empty,
    server::{Server, decode},
};
use crate::failure::{Failure, Result};

/// Bytes of one network event, or of an error in its place.
const LONGEST_EVENT: usize = 64 * 1024;

impl Server {
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
        let path = format!("/soulbox/v1/sandboxes/{id}/requests");
        self.write(Method::PUT, &path, rules).await.map(drop)
    }

    /// Replaces what a sandbox may reach.
    ///
    /// # Errors
    /// What the server says.
    pub async fn put_network(&self, id: &SandboxId, rules: &NetworkUpdate) -> Result<()> {
        let path = format!("/sandboxes/{id}/network");
        self.write(Method::PUT, &path, rules).await.map(drop)
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
        let pass = NewPortPass { port: port.get().into(), timeout: Some(seconds) };
        let path = format!("/soulbox/v1/sandboxes/{id}/passes");
        decode(&self.write(Method::POST, &path, &pass).await?)
    }

    /// Makes names lead to a port of a sandbox; they go with it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn set_domains(&self, id: &SandboxId, names: &[String], port: Port) -> Result<()> {
        let to = SandboxDomains { domains: names.to_vec(), port: Some(port.get().into()) };
        let path = format!("/soulbox/v1/sandboxes/{id}/domains");
        self.write(Method::PUT, &path, &to).await.map(drop)
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
}
