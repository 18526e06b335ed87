//! The listener's certificates.

use std::{convert::Infallible, fs, path::PathBuf, sync::Arc};

use soulbox_gateway::tls::{self, FileTls, TlsError};
use tokio_rustls::rustls::ServerConfig;

use super::address::Domain;
use crate::{
    args::serve::Serve,
    data_dir::DataDir,
    failure::{Failure, Result},
};

/// The bundle of a Debian machine; elsewhere the local authority stands alone.
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

#[derive(Debug)]
pub(super) struct Tls {
    pub config: Arc<ServerConfig>,
    files: Option<FileTls>,
    /// What clients trust: this machine's authorities and ours, in one file.
    pub trust: Option<PathBuf>,
    pub new_authority: Option<PathBuf>,
}

impl Tls {
    /// # Errors
    /// If a file can't be read, or does not hold what it should.
    pub(super) fn open(
        args: &Serve,
        data_dir: &DataDir,
        domain: Option<&Domain>,
    ) -> Result<Option<Self>> {
        if args.tls_local {
            let dir = data_dir.tls();
            let local =
                tls::local(&dir, domain.map(|domain| domain.name.as_str())).map_err(unusable)?;
            // Python's SSL_CERT_FILE replaces what the machine trusts; so it must hold that too.
            let mut bundle = fs::read(SYSTEM_BUNDLE).unwrap_or_default();
            let ours = fs::read(&local.authority);
            bundle.extend(ours.map_err(Failure::io(local.authority.display().to_string()))?);
            let trust = dir.join("trust.pem");
            fs::write(&trust, bundle).map_err(Failure::io(trust.display().to_string()))?;
            let new_authority = local.created.then(|| local.authority.clone());
            let config = local.config;
            return Ok(Some(Self { config, files: None, trust: Some(trust), new_authority }));
        }
        let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
            return Ok(None);
        };
        let files = tls::files(certificate, key).map_err(unusable)?;
        let config = Arc::clone(&files.config);
        Ok(Some(Self { config, files: Some(files), trust: None, new_authority: None }))
    }
}

fn unusable(error: TlsError) -> Failure {
    soulbox_model::Error::from(error).into()
}

/// Reads certificate files again each time that `reload` says so. Never ends.
pub(super) async fn keep_fresh(
    tls: Option<&Tls>,
    mut reload: impl AsyncFnMut() -> Option<()>,
) -> Infallible {
    while let Some(()) = reload().await {
        match tls.and_then(|tls| tls.files.as_ref()).map(FileTls::reload) {
            Some(Ok(())) => tracing::info!("certificate read again"),
            Some(Err(error)) => tracing::error!(%error, "certificate not changed"),
            None => tracing::info!("nothing to reload: no certificate files"),
        }
    }
    std::future::pending().await
}
