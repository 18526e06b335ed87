//! The certificate authority of one sandbox, in whose name TLS is opened where a rule asks for it.
//!
//! Its certificate is trusted inside that sandbox alone; its key stays with the server.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use soulbox_model::network::Domain;
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than any sandbox lives.
const LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Names whose certificates are kept.
const KEPT: usize = 64;
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Signs for any name, to one sandbox.
pub struct Authority {
    certificate: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    leaf_key: KeyPair,
    made: Mutex<Vec<(Domain, Arc<ServerConfig>)>>,
}

impl Authority {
    /// # Errors
    /// If the machine has no randomness.
    pub fn new() -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params().self_signed(&key).map_err(io::Error::other)?;
        Self::of(key, certificate.pem())
    }

    /// What [`Authority::to_pem`] gave.
    ///
    /// # Errors
    /// If it is something else.
    pub fn from_pem(pem: &str) -> io::Result<Self> {
        let (certificate, key) = pem
            .find("-----BEGIN PRIVATE KEY")
            .and_then(|at| pem.split_at_checked(at))
            .ok_or_else(|| io::Error::other("there is no private key in it"))?;
        Self::of(KeyPair::from_pem(key).map_err(io::Error::other)?, certificate.to_owned())
    }

    fn of(key: KeyPair, certificate: String) -> io::Result<Self> {
        let der =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(io::Error::other)?;
        Ok(Self {
            certificate,
            der,
            issuer: Issuer::new(params(), key),
            leaf_key: KeyPair::generate().map_err(io::Error::other)?,
            made: Mutex::default(),
        })
    }

    /// Certificate and key, to be kept where nobody else reads them.
    pub fn to_pem(&self) -> String {
        format!("{}{}", self.certificate, self.issuer.key().serialize_pem())
    }

    /// What the sandbox has to trust (PEM).
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// How to answer a client that wants to talk to `name`.
    pub(crate) fn server(&self, name: &Domain) -> io::Result<Arc<ServerConfig>> {
        let mut made = self.made.lock();
        if let Some((_, config)) = made.iter().find(|(known, _)| known == name) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.issue(name)?);
        if made.len() == KEPT {
            made.remove(0);
        }
        made.push((name.clone(), Arc::clone(&config)));
        Ok(config)
    }

    fn issue(&self, name: &Domain) -> io::Result<ServerConfig> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "SoulBox egress");
        let host = name.as_str().try_into().map_err(io::Error::other)?;
        params.subject_alt_names = vec![SanType::DnsName(host)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params);
        let leaf = params.signed_by(&self.leaf_key, &self.issuer).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone(), self.der.clone()], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // Clients that read in one thread and write in another over one session of OpenSSL, as some do in Python,
        // now and then lose their first request if a ticket comes just then.
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Its key never is in anybody's log.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}

/// The same for every sandbox but for the key, so that the issuer can be made again from it.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "SoulBox");
    params.distinguished_name.push(DnType::CommonName, "SoulBox egress CA of this sandbox");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params);
    params
}

/// From yesterday, for clients whose clock is behind.
fn set_validity(params: &mut CertificateParams) {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + LIFE).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_from_what_was_kept_and_signs_the_same_names_once() {
        let made = Authority::new().unwrap();
        let again = Authority::from_pem(&made.to_pem()).unwrap();
        assert_eq!(again.to_pem(), made.to_pem());
        assert_eq!(again.certificate(), made.certificate());
        assert!(!made.certificate().contains("PRIVATE"));
        let name = "api.example.com".parse().unwrap();
        let one = again.server(&name).unwrap();
        assert!(Arc::ptr_eq(&one, &again.server(&name).unwrap()));
        for n in 0..KEPT * 2 {
            again.server(&format!("n{n}.example.com").parse().unwrap()).unwrap();
        }
        assert_eq!(again.made.lock().len(), KEPT);
        assert!(Authority::from_pem("nothing").is_err());
    }
}
