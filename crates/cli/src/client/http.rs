//! HTTP/1.1 to one server, over connections that are kept.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use soulbox_model::BoxError;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::Endpoint;
use crate::failure::{Failure, Result};

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the head of an answer; the server gives up on its own work after 60 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);
/// The largest answer that is read whole.
const MAX_ANSWER: usize = 64 << 20;

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// One whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A client of one server.
#[derive(Debug)]
pub struct Http {
    endpoint: Endpoint,
    /// What to do when nobody answers.
    hint: String,
    tls: Option<Arc<ClientConfig>>,
    idle: std::sync::Mutex<Vec<SendRequest<Body>>>,
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

impl Http {
    /// `ca`: a PEM file of authorities to trust beside those of this machine.
    ///
    /// # Errors
    /// If `ca` can't be read.
    pub fn new(endpoint: Endpoint, hint: String, ca: Option<&std::path::Path>) -> Result<Self> {
        let tls = if endpoint.tls { Some(tls_config(ca)?) } else { None };
        Ok(Self { endpoint, hint, tls, idle: std::sync::Mutex::default() })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A request to `path`, with the headers that each one carries.
    pub fn request(&self, method: http::Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(self.endpoint.target(path))
            .header(header::HOST, self.endpoint.authority())
            .header(header::USER_AGENT, concat!("soulbox/", env!("CARGO_PKG_VERSION")))
    }

    /// Sends `request` and reads the whole answer, of whatever status.
    ///
    /// # Errors
    /// If the server can't be reached, goes away meanwhile, or says too much.
    pub async fn call(&self, request: Request<Body>) -> Result<Answer> {
        let (sender, response) = self.send(request).await?;
        let (parts, mut body) = response.into_parts();
        let mut whole = BytesMut::new();
        while let Some(frame) = timeout(ANSWER_TIMEOUT, body.frame())
            .await
            .map_err(|_| self.unreachable("it stopped in the middle of an answer"))?
        {
            let frame = frame.map_err(|error| self.unreachable(error))?;
            if let Ok(data) = frame.into_data() {
                if whole.len() + data.len() > MAX_ANSWER {
                    return Err(Failure::Protocol(format!("more than {MAX_ANSWER} bytes")));
                }
                whole.extend_from_slice(&data);
            }
        }
        self.keep(sender).await;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: whole.freeze() })
    }

    /// Sends `request` and returns with the head, and with the connection that the body arrives
    /// on: [`Http::keep`] it after the last frame, or drop it.
    ///
    /// # Errors
    /// If the server can't be reached.
    pub async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<(SendRequest<Body>, Response<Incoming>)> {
        loop {
            let kept = self.idle().pop();
            let fresh = kept.is_none();
            let mut sender = match kept {
                Some(sender) if sender.is_closed() => continue,
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let sent = timeout(ANSWER_TIMEOUT, sender.try_send_request(request)).await;
            match sent.map_err(|_| self.unreachable("no answer in time"))? {
                Ok(response) => return Ok((sender, response)),
                // The server closed a kept connection before it saw anything of the request.
                Err(mut error) if !fresh && error.message().is_some() => {
                    let Some(unsent) = error.take_message() else {
                        return Err(self.unreachable(error.into_error()));
                    };
                    request = unsent;
                }
                Err(error) => return Err(self.unreachable(error.into_error())),
            }
        }
    }

    /// Takes back a connection whose answer was read to its end.
    pub async fn keep(&self, mut sender: SendRequest<Body>) {
        if sender.ready().await.is_ok() {
            self.idle().push(sender);
        }
    }

    async fn connect(&self) -> Result<SendRequest<Body>> {
        let address = (self.endpoint.host.as_str(), self.endpoint.port);
        let tcp = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| self.unreachable("no connection within 5 s"))?
            .map_err(|error| self.unreachable(error))?;
        // Requests are small and wait for answers.
        tcp.set_nodelay(true).map_err(|error| self.unreachable(error))?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let tls = TlsConnector::from(Arc::clone(config));
                let name = ServerName::try_from(self.endpoint.host.clone())
                    .map_err(|error| self.unreachable(error))?;
                let handshake = timeout(CONNECT_TIMEOUT, tls.connect(name, tcp)).await;
                Box::new(
                    handshake
                        .map_err(|_| self.unreachable("no TLS handshake within 5 s"))?
                        .map_err(|error| self.unreachable(error))?,
                )
            }
        };
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(error))?;
        // Ends with the connection, which ends when its sender and its body are dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(sender)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Body>>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn unreachable(&self, reason: impl Into<BoxError>) -> Failure {
        Failure::Unreachable {
            url: self.endpoint.to_string(),
            reason: root_cause(&*reason.into()),
            hint: self.hint.clone(),
        }
    }
}

/// The innermost cause: what the kernel or TLS said.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn tls_config(ca: Option<&std::path::Path>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
        let pem = std::fs::read(path).map_err(Failure::io(path.display().to_string()))?;
        let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
        roots.add_parsable_certificates(certificates);
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Protocol(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
