//! A certificate authority of this machine, for names that no public one signs.
//!
//! Its certificate and key stay in the data directory; whoever trusts the certificate trusts this
//! server for `localhost`, the configured domain and loopback addresses, and for nothing else: the certificate's
//! name constraints say so. Server certificates are made in memory, one per name that a client asks for:
//! verifiers do not accept `*.localhost`.

use std::{
    collections::HashMap,
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{TlsError, provider, server_config, unreadable};
use crate::route::domain_name;

const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
const AUTHORITY_RENEWAL: Duration = Duration::from_secs(3285 * 24 * 3600);
/// Of a server certificate; it is made anew when two thirds are over.
const LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
const LEAF_RENEWAL: Duration = Duration::from_secs(60 * 24 * 3600);
/// Names whose certificates are kept.
const KEPT_NAMES: usize = 1024;

/// TLS from this machine's own certificate authority.
#[derive(Debug)]
pub struct LocalTls {
    pub config: Arc<ServerConfig>,
    /// What clients have to trust (PEM).
    pub authority: PathBuf,
    /// Whether the authority was made just now, so that nobody trusts it yet.
    pub created: bool,
}

/// Opens the authority in `dir`, making it on first use (key of mode 0600), and serves `localhost`, `*.localhost`,
/// loopback addresses, and `domain` with its subdomains. Each domain has an authority of its own.
///
/// # Errors
/// A directory that cannot be written, or files in it that are no certificate and key.
pub fn local(dir: &Path, domain: Option<&str>) -> Result<LocalTls, TlsError> {
    let domain = domain.and_then(domain_name).filter(|name| name != "localhost");
    let dir = dir.join(domain.as_deref().unwrap_or("localhost"));
    let authority = dir.join("ca.pem");
    let key_file = dir.join("ca.key");

    make_dir(&dir)?;
    let old = read_authority(&authority, &key_file)?;
    let created = old.is_none();
    let key = match old {
        Some(key) => key,
        None => {
            let key = KeyPair::generate()?;
            let certificate = authority_params(&key, domain.as_deref()).self_signed(&key)?;
            write(&key_file, 0o600, &key.serialize_pem())?;
            write(&authority, 0o644, &certificate.pem())?;
            key
        }
    };
    let params = authority_params(&key, domain.as_deref());
    let certificates = Certificates {
        issuer: Issuer::new(params, key),
        leaf_key: KeyPair::generate()?,
        domain,
        made: Mutex::default(),
    };
    certificates.get(None)?;
    Ok(LocalTls { config: server_config(Arc::new(certificates))?, authority, created })
}

/// The key of an authority that is complete, fits and is not about to expire.
fn read_authority(certificate: &Path, key: &Path) -> Result<Option<KeyPair>, TlsError> {
    if !certificate.exists() || !key.exists() {
        return Ok(None);
    }
    let unreadable_key =
        |error: &dyn fmt::Display| unreadable("a private key", key, &error.to_string());
    let metadata = fs::metadata(key).map_err(|e| unreadable_key(&e))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(key = %key.display(), "others could read this key; now they cannot");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600))
            .map_err(|e| unreadable_key(&e))?;
    }
    let pem = fs::read_to_string(key).map_err(|e| unreadable_key(&e))?;
    let pair = KeyPair::from_pem(&pem).map_err(|e| unreadable_key(&e))?;
    let der = CertificateDer::from_pem_file(certificate)
        .map_err(|error| unreadable("a certificate", certificate, &error))?;
    let public = pair.public_key_raw();
    let fits = der.windows(public.len()).any(|window| window == public);
    let age = fs::metadata(certificate)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|made| SystemTime::now().duration_since(made).ok());
    Ok((fits && age.is_none_or(|age| age < AUTHORITY_RENEWAL)).then_some(pair))
}

fn make_dir(dir: &Path) -> Result<(), TlsError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| TlsError::Write { path: dir.to_owned(), source })
}

/// Replaces a file at once; a crash leaves the old one or the new one.
fn write(path: &Path, mode: u32, text: &str) -> Result<(), TlsError> {
    let temporary = path.with_extension("new");
    let attempt = || -> io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().map_err(|source| TlsError::Write { path: path.to_owned(), source })
}

/// The same for the same key, but for the dates: the issuer that server certificates name can be
/// made again without reading the certificate.
fn authority_params(key: &KeyPair, domain: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let fingerprint = hex::encode(&Sha256::digest(key.public_key_raw())[..4]);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "SoulBox");
    params.distinguished_name.push(DnType::CommonName, format!("SoulBox local CA {fingerprint}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut permitted = vec![
        GeneralSubtree::DnsName("localhost".to_owned()),
        GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
            std::net::Ipv6Addr::LOCALHOST.into(),
            128,
        )),
    ];
    permitted.extend(domain.map(|domain| GeneralSubtree::DnsName(domain.to_owned())));
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    set_validity(&mut params, AUTHORITY_LIFE);
    params
}

/// From yesterday, for clients whose clock is behind.
fn set_validity(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
}

/// Makes and keeps server certificates.
struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    leaf_key: KeyPair,
    domain: Option<String>,
    /// By name; the empty name is the certificate for clients that ask for none of ours.
    made: Mutex<HashMap<String, (SystemTime, Arc<CertifiedKey>)>>,
}

impl Certificates {
    fn get(&self, name: Option<&str>) -> Result<Arc<CertifiedKey>, TlsError> {
        let name = name.filter(|name| self.is_ours(name)).unwrap_or_default();
        let mut made = self.made.lock();
        if let Some((when, key)) = made.get(name)
            && when.elapsed().is_ok_and(|age| age < LEAF_RENEWAL)
        {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(self.issue(name)?);
        if made.len() >= KEPT_NAMES {
            made.clear();
        }
        made.insert(name.to_owned(), (SystemTime::now(), Arc::clone(&key)));
        Ok(key)
    }

    fn is_ours(&self, name: &str) -> bool {
        let below = |parent: &str| {
            name.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        below("localhost") || self.domain.as_deref().is_some_and(below)
    }

    fn issue(&self, name: &str) -> Result<CertifiedKey, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "SoulBox server");
        params.subject_alt_names = if name.is_empty() {
            self.general_names()?
        } else {
            vec![SanType::DnsName(name.try_into()?)]
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, LEAF_LIFE);
        let certificate = params.signed_by(&self.leaf_key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        Ok(CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider())?)
    }

    fn general_names(&self) -> Result<Vec<SanType>, TlsError> {
        let mut names = vec![
            SanType::DnsName("localhost".try_into()?),
            SanType::DnsName("*.localhost".try_into()?),
            SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
            SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
        ];
        if let Some(domain) = &self.domain {
            names.push(SanType::DnsName(domain.as_str().try_into()?));
            names.push(SanType::DnsName(format!("*.{domain}").try_into()?));
        }
        Ok(names)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        self.get(name.as_deref())
            .inspect_err(|error| tracing::warn!(%error, name, "no certificate"))
            .ok()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("domain", &self.domain).finish_non_exhaustive()
    }
}
