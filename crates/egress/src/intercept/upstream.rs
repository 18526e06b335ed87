//! The way to the host itself.

use std::{io, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, Uri, Version, header, uri};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use soulbox_model::network::Domain;
use tokio::time::timeout;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider, pki_types::ServerName},
};

use super::Failure;
use crate::{Policy, dial, gate::Shared};

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Whom the server trusts: what its machine trusts.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl Roots {
    /// # Errors
    /// If the machine has no certificates at all.
    pub(crate) fn of_machine() -> io::Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            return Err(io::Error::other(
                "this machine trusts no certificate authority; install ca-certificates",
            ));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let speaking = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self { any: speaking(&[b"h2", b"http/1.1"]), http1: speaking(&[b"http/1.1"]) })
    }

    pub(crate) fn client(&self, h2: bool) -> Arc<ClientConfig> {
        Arc::clone(if h2 { &self.any } else { &self.http1 })
    }
}

/// Connections to one host, made as they are needed.
pub(super) struct Upstream {
    shared: Arc<Shared>,
    host: Domain,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Takes any number of requests at a time.
    h2: Option<http2::SendRequest<Incoming>>,
    /// Each takes one after the other.
    http1: Vec<http1::SendRequest<Incoming>>,
}

enum Sender {
    H2(http2::SendRequest<Incoming>),
    Http1(http1::SendRequest<Incoming>),
}

impl Upstream {
    pub(super) fn new(
        shared: Arc<Shared>,
        host: Domain,
        port: u16,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        Self { shared, host, port, tls, open: Mutex::default() }
    }

    pub(super) fn host(&self) -> &Domain {
        &self.host
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.tls.is_some()
    }

    /// Sends a request that was found good, once more if the connection had been closed by then.
    pub(super) async fn send(
        &self,
        policy: &Policy,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Failure> {
        loop {
            let (sender, fresh) = match self.idle() {
                Some(sender) => (sender, false),
                None => (self.connect(policy).await?, true),
            };
            match self.send_over(sender, request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(unreachable(error.into_error())),
                },
            }
        }
    }

    async fn send_over(
        &self,
        sender: Sender,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Incoming>>> {
        match sender {
            Sender::H2(mut sender) => {
                self.address(&mut request, Version::HTTP_2);
                sender.try_send_request(request).await
            }
            Sender::Http1(mut sender) => {
                self.address(&mut request, Version::HTTP_11);
                let sent = sender.try_send_request(request).await;
                self.open.lock().http1.push(sender);
                sent
            }
        }
    }

    /// A connection that takes a request now.
    fn idle(&self) -> Option<Sender> {
        let mut open = self.open.lock();
        if let Some(h2) = open.h2.as_ref().filter(|h2| !h2.is_closed()) {
            return Some(Sender::H2(h2.clone()));
        }
        open.http1.retain(|sender| !sender.is_closed());
        let ready = open.http1.iter().position(http1::SendRequest::is_ready)?;
        Some(Sender::Http1(open.http1.swap_remove(ready)))
    }

    async fn connect(&self, policy: &Policy) -> Result<Sender, Failure> {
        let resolver = &self.shared.service.resolver;
        let stream = dial::name(resolver, policy, &self.host, self.port).await?;
        let Some(tls) = &self.tls else { return speak_http1(TokioIo::new(stream)).await };
        let name = ServerName::try_from(self.host.to_string()).map_err(unreachable)?;
        let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        let stream = timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .map_err(|_| Failure::Unreachable("its TLS handshake took too long".to_owned()))?
            .map_err(|error| Failure::Unreachable(format!("TLS failed: {error}")))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return speak_http1(TokioIo::new(stream)).await;
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(unreachable)?;
        tokio::spawn(connection);
        self.open.lock().h2 = Some(sender.clone());
        Ok(Sender::H2(sender))
    }

    /// Names the host in the way of the protocol.
    fn address(&self, request: &mut Request<Incoming>, version: Version) {
        let standard = if self.is_sealed() { 443 } else { 80 };
        let authority = if self.port == standard {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        };
        let mut parts = uri::Parts::default();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if version == Version::HTTP_2 {
            request.headers_mut().remove(header::HOST);
            request.headers_mut().remove(header::CONNECTION);
            request.headers_mut().remove(header::UPGRADE);
            parts.scheme = Some(uri::Scheme::HTTPS);
            parts.authority = authority.parse().ok();
        } else if let Ok(host) = HeaderValue::from_str(&authority) {
            request.headers_mut().insert(header::HOST, host);
        }
        if parts.path_and_query.is_none() {
            parts.path_and_query = Some(uri::PathAndQuery::from_static("/"));
        }
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = version;
    }
}

async fn speak_http1<S>(stream: TokioIo<S>) -> Result<Sender, Failure>
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(stream).await.map_err(unreachable)?;
    tokio::spawn(connection.with_upgrades());
    Ok(Sender::Http1(sender))
}

fn unreachable(error: impl std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    Failure::Unreachable(text)
}
