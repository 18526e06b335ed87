//! TLS to a program in a sandbox that speaks nothing else on its port.
//!
//! The certificate is not verified: whoever runs the program could as well run it without TLS, and the
//! stream leads into the sandbox whatever it says. Nothing is kept from one connection for the next, so no
//! program learns of another.

use std::{io, sync::Arc};

use soulbox_engine::Conduit;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

/// What programs are called by, as by a client beside them.
const NAME: &str = "localhost";

/// Makes streams into sandboxes into TLS ones.
pub(crate) struct Inside {
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Inside {
    /// # Errors
    /// None with the cipher suites that this program is built with.
    pub fn new() -> Result<Self, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let connector = |protocol: &[u8]| {
            let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(Arc::clone(&provider))))
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            config.resumption = Resumption::disabled();
            Ok::<_, rustls::Error>(TlsConnector::from(Arc::new(config)))
        };
        Ok(Self { http1: connector(b"http/1.1")?, http2: connector(b"h2")? })
    }

    /// Takes as long as the program takes: bound it.
    ///
    /// # Errors
    /// The program speaks no TLS, or went away.
    pub async fn greet(&self, conduit: Conduit, http2: bool) -> io::Result<TlsStream<Conduit>> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let connector = if http2 { &self.http2 } else { &self.http1 };
        connector.connect(name, conduit).await
    }
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
