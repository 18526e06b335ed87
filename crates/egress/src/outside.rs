//! A connection that was made in a sandbox's place: plain, or inside TLS to its egress proxy.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use soulbox_model::network::{ProxyHost, ProxyTls, UpstreamProxy};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// To the destination, or to a proxy that leads there.
#[derive(Debug)]
pub(crate) enum Outside {
    Plain(TcpStream),
    Sealed(Box<TlsStream<TcpStream>>),
}

impl Outside {
    /// TLS to a proxy over `socket`, verified as `tls` says: with its certificate alone if it has one,
    /// else with what the machine trusts.
    pub(crate) async fn sealed(
        socket: TcpStream,
        proxy: &UpstreamProxy,
        tls: &ProxyTls,
        machine: impl FnOnce() -> io::Result<Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let config = match &tls.ca_cert {
            None => machine()?,
            Some(pem) => trusting(pem).map(Arc::new)?,
        };
        let name = match (&tls.server_name, &proxy.address.host) {
            (Some(name), _) | (None, ProxyHost::Name(name)) => {
                ServerName::try_from(name.to_string()).map_err(io::Error::other)?
            }
            (None, ProxyHost::Address(ip)) => ServerName::from(*ip),
        };
        let stream = TlsConnector::from(config).connect(name, socket).await?;
        Ok(Self::Sealed(Box::new(stream)))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Sealed(stream) => stream.get_ref().0,
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    /// The close that follows says that not all was sent.
    pub(crate) fn reset(&self) {
        let _ = self.tcp().set_zero_linger();
    }
}

/// # Errors
/// If there is no certificate in `pem`, or one that cannot be read.
pub(crate) fn trusting(pem: &str) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::other("there is no certificate in it; write PEM"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

impl AsyncRead for Outside {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Sealed(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Outside {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Sealed(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Sealed(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Sealed(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
