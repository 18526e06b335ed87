//! The way to the host itself.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderValue, Request, Response, Uri, Version, header, uri};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use soulbox_model::network::Domain;
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider, pki_types::ServerName},
};

use super::refusal::Failure;
use crate::{
    Policy, Reason, Target,
    gate::Shared,
    policy::Passed,
    traffic::{Meter, Metered, Place},
};

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// What one connection keeps in memory for a reader who is slow, in bytes.
pub(super) const STREAM_WINDOW: u32 = 64 * 1024;
pub(super) const CONNECTION_WINDOW: u32 = 256 * 1024;
pub(super) const SEND_BUFFER: usize = 32 * 1024;
const HTTP1_BUFFER: usize = 64 * 1024;

/// Whom the server trusts: what its machine trusts.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    bare: Arc<ClientConfig>,
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
        Ok(Self {
            any: speaking(&[b"h2", b"http/1.1"]),
            http1: speaking(&[b"http/1.1"]),
            bare: speaking(&[]),
        })
    }

    /// For what is no HTTP.
    pub(crate) fn bare(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.bare)
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
    /// One at a time, so that requests that come together share what the first one finds.
    dialling: tokio::sync::Mutex<()>,
    open: Mutex<Open>,
    /// All that were dialled, also those that left HTTP since.
    dialled: Mutex<Vec<(Weak<Meter>, Passed)>>,
    /// What moves their bytes: ends with the flow.
    drivers: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Open {
    /// Under which policy they were dialled.
    policy: Option<Arc<Policy>>,
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
        Self {
            shared,
            host,
            port,
            tls,
            dialling: tokio::sync::Mutex::default(),
            open: Mutex::default(),
            dialled: Mutex::default(),
            drivers: Mutex::default(),
        }
    }

    pub(super) fn host(&self) -> &Domain {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.tls.is_some()
    }

    /// Sends a request that was found good, once more if the connection had been closed by then.
    pub(super) async fn send(
        &self,
        policy: &Arc<Policy>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Failure> {
        loop {
            self.has_bytes_left()?;
            let (sender, fresh) = match self.idle(policy) {
                Some(sender) => (sender, false),
                None => {
                    let _turn = self.dialling.lock().await;
                    match self.idle(policy) {
                        Some(sender) => (sender, false),
                        None => (self.connect().await?, true),
                    }
                }
            };
            self.still_judged_by(policy)?;
            match self.send_over(policy, sender, request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => {
                        self.has_bytes_left()?;
                        return Err(unreachable(error.into_error()));
                    }
                },
            }
        }
    }

    /// # Errors
    /// If a limit of bytes is used up.
    fn has_bytes_left(&self) -> Result<(), Failure> {
        let place = Place { names: vec![self.host.clone()], address: None };
        let used_up = self.shared.traffic.limits().used_up(&place);
        used_up.map_or(Ok(()), |used_up| Err(Failure::used_up(&Reason::UsedUp(used_up))))
    }

    /// A request that waited is not sent if the rules that it was judged by are no more.
    fn still_judged_by(&self, policy: &Arc<Policy>) -> Result<(), Failure> {
        let now = self.shared.policy.borrow();
        if Arc::ptr_eq(&now, policy) || now.egress().asks_the_same(policy.egress()) {
            return Ok(());
        }
        Err(Failure::not_allowed(
            "the rules of this sandbox changed while the request waited; send it again",
        ))
    }

    async fn send_over(
        &self,
        policy: &Arc<Policy>,
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
                let mut open = self.open.lock();
                if open.policy.as_ref().is_some_and(|dialled| Arc::ptr_eq(dialled, policy)) {
                    open.http1.push(sender);
                }
                sent
            }
        }
    }

    /// A connection that takes a request now, and that the policy of now led to.
    fn idle(&self, policy: &Arc<Policy>) -> Option<Sender> {
        let mut open = self.open.lock();
        if !open.policy.as_ref().is_some_and(|dialled| Arc::ptr_eq(dialled, policy)) {
            *open = Open { policy: Some(Arc::clone(policy)), ..Open::default() };
        }
        if let Some(h2) = open.h2.as_ref().filter(|h2| !h2.is_closed()) {
            return Some(Sender::H2(h2.clone()));
        }
        open.http1.retain(|sender| !sender.is_closed());
        let ready = open.http1.iter().position(http1::SendRequest::is_ready)?;
        Some(Sender::Http1(open.http1.swap_remove(ready)))
    }

    async fn connect(&self) -> Result<Sender, Failure> {
        let place = Arc::clone(&self.shared.upstreams)
            .try_acquire_owned()
            .map_err(|_| Failure::not_allowed("too many requests are under way at once"))?;
        let (stream, passed) = self.shared.dialler(true).name(&self.host, self.port).await?;
        let address = stream.peer_addr().map_err(unreachable)?;
        let to = Target::named(&self.host, SocketAddr::new(address.ip().to_canonical(), self.port));
        let meter = Arc::new(self.shared.begin(to, vec![self.host.clone()]));
        self.dialled.lock().push((Arc::downgrade(&meter), passed));
        // A change from here on is seen by who serves the flow; this is for one before.
        let policy = Arc::clone(&self.shared.policy.borrow());
        if self.cut_by(&policy) {
            return Err(Failure::not_allowed(Reason::NotAllowed.to_string()));
        }
        let stream = Metered::new(stream, meter);
        let Some(tls) = &self.tls else {
            return self.speak_http1(TokioIo::new(stream), place).await;
        };
        let name = ServerName::try_from(self.host.to_string()).map_err(unreachable)?;
        let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        let stream = timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .map_err(|_| Failure::Unreachable("its TLS handshake took too long".to_owned()))?
            .map_err(|error| Failure::Unreachable(format!("TLS failed: {error}")))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return self.speak_http1(TokioIo::new(stream), place).await;
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(unreachable)?;
        self.drive(place, connection);
        self.open.lock().h2 = Some(sender.clone());
        Ok(Sender::H2(sender))
    }

    /// Cuts the connections that lead where a policy lets nothing go; says whether there are any.
    pub(super) fn cut_by(&self, policy: &Policy) -> bool {
        let mut dialled = self.dialled.lock();
        dialled.retain(|(meter, _)| meter.strong_count() > 0);
        let forbidden = dialled.iter().filter(|(_, passed)| !policy.keeps(passed));
        let forbidden: Vec<_> = forbidden.filter_map(|(meter, _)| meter.upgrade()).collect();
        for meter in forbidden.iter().filter(|meter| meter.was_cut().is_none()) {
            self.shared.cut("tcp", meter, &Reason::NotAllowed);
        }
        !forbidden.is_empty()
    }

    async fn speak_http1<S>(
        &self,
        stream: TokioIo<S>,
        place: OwnedSemaphorePermit,
    ) -> Result<Sender, Failure>
    where
        TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        let (sender, connection) =
            builder.max_buf_size(HTTP1_BUFFER).handshake(stream).await.map_err(unreachable)?;
        self.drive(place, connection.with_upgrades());
        Ok(Sender::Http1(sender))
    }

    fn drive<E: Send>(
        &self,
        place: OwnedSemaphorePermit,
        connection: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let mut drivers = self.drivers.lock();
        while drivers.try_join_next().is_some() {}
        drivers.spawn(async move {
            let _place = place;
            // Who waits for an answer hears of it.
            let _ = connection.await;
        });
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
            let body = request.body();
            // Of methods that seldom have one, a body without a length would be left out.
            if !body.is_end_stream() && body.size_hint().exact().is_none() {
                let chunked = HeaderValue::from_static("chunked");
                request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
            }
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

fn unreachable(error: impl std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    Failure::Unreachable(text)
}
