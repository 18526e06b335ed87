//! One file over HTTP, checked by its hash before anybody sees it.

use std::{io, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha512};
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::error::{Error, Result};

/// The largest file that is taken.
const MAX: u64 = 1 << 30;
const CONNECT: Duration = Duration::from_secs(15);
/// Without a byte.
const SILENCE: Duration = Duration::from_secs(60);
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(500);
const MIB: u64 = 1 << 20;

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Digest {
    Sha512(Vec<u8>),
}

impl Digest {
    /// Reads `sha512-…`.
    pub(super) fn integrity(text: &str) -> Result<Self> {
        let hash = text.strip_prefix("sha512-").and_then(|hash| BASE64_STANDARD.decode(hash).ok());
        let hash = hash.filter(|hash| hash.len() == <Sha512 as sha2::Digest>::output_size());
        hash.map(Self::Sha512)
            .ok_or_else(|| Error::Unsupported(format!("`{text}` is no integrity of a package")))
    }
}

/// Fetches `url` into `target`, which is removed again unless it is what `digest` says. A failure on
/// the way is tried again.
pub(super) async fn fetch(
    url: &str,
    digest: &Digest,
    target: &Path,
    label: &str,
    report: &(dyn Fn(String) + Sync),
) -> Result<()> {
    let failed = |advice: String, log: String| Error::Build { name: label.to_owned(), advice, log };
    let client = client().map_err(|error| failed("no HTTP client".into(), error.to_string()))?;
    let mut attempt = 1;
    loop {
        let fetched = once(&client, url, target, |bytes| {
            report(format!("fetching {label}: {} MiB", bytes / MIB));
        });
        match fetched.await {
            Ok(hash) if *digest == hash => return Ok(()),
            Ok(_) => {
                let _ = tokio::fs::remove_file(target).await;
                let text = "the registry gave something else than what this version of SoulBox \
                            expects: check which registry this machine uses";
                return Err(failed(text.into(), without_query(url).into()));
            }
            Err(Trouble { again: true, .. }) if attempt < ATTEMPTS => {
                let _ = tokio::fs::remove_file(target).await;
                tokio::time::sleep(PAUSE * (1 << attempt)).await;
                attempt += 1;
            }
            Err(Trouble { error, .. }) => {
                let _ = tokio::fs::remove_file(target).await;
                let text = "a package could not be fetched: check the network, the proxy \
                            (`https_proxy`) and the registry that this machine uses";
                return Err(failed(text.into(), format!("{}: {error}", without_query(url))));
            }
        }
    }
}

/// What went wrong, and whether it may go better the next time.
struct Trouble {
    error: String,
    again: bool,
}

async fn once(
    client: &reqwest::Client,
    url: &str,
    target: &Path,
    mut at: impl FnMut(u64),
) -> std::result::Result<Digest, Trouble> {
    let trouble =
        |error: &dyn std::fmt::Display, again| Trouble { error: error.to_string(), again };
    let response = client
        .get(url)
        .send()
        .await
        .map_err(|e| Trouble { again: !e.is_builder() && !e.is_redirect(), error: causes(&e) })?;
    let status = response.status();
    if !status.is_success() {
        let again = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
        return Err(trouble(&status, again));
    }
    let disk = |e: io::Error| trouble(&e, false);
    let mut file = tokio::fs::File::create(target).await.map_err(disk)?;
    let (mut stream, mut hash, mut bytes) = (response.bytes_stream(), Sha512::new(), 0);
    loop {
        let chunk = match timeout(SILENCE, stream.try_next()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(trouble(&causes(&error), true)),
            Err(_) => return Err(trouble(&"nothing more arrives", true)),
        };
        let before = bytes;
        bytes += chunk.len() as u64;
        if bytes > MAX {
            return Err(trouble(&format!("more than {} MiB", MAX / MIB), false));
        }
        if before / MIB != bytes / MIB {
            at(bytes);
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)?;
    Ok(Digest::Sha512(hash.finalize().to_vec()))
}

fn client() -> io::Result<reqwest::Client> {
    let mut roots = RootCertStore::empty();
    // One that this machine cannot read is as one that it does not have.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .connect_timeout(CONNECT)
        .user_agent(concat!("soulbox/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(io::Error::other)
}

/// An error with those below it: the outermost alone does not say what went wrong.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text = format!("{text}: {cause}");
        below = cause.source();
    }
    text
}

/// An address for people: a query may be a secret.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers each connection with the next of `answers`.
    async fn server(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/file?token=secret", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 2048];
                let _ = stream.read(&mut request).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            std::future::pending::<Infallible>().await
        });
        url
    }

    const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const GONE: &str = "HTTP/1.1 404 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    fn digest(of: &str) -> Digest {
        Digest::Sha512(Sha512::digest(of).to_vec())
    }

    #[tokio::test]
    async fn a_flaky_registry_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("file");
        let url = server(vec![BUSY, FINE]).await;
        fetch(&url, &digest("ok"), &target, "thing", &|_| ()).await.unwrap();
        assert_eq!(std::fs::read(target).unwrap(), b"ok");
    }

    #[tokio::test]
    async fn what_is_not_there_or_something_else_leaves_nothing_and_tells_no_query() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("file");
        for (answer, wanted) in [(GONE, "ok"), (FINE, "other")] {
            // Asked once: another answer would be fine.
            let url = server(vec![answer, FINE]).await;
            let error = fetch(&url, &digest(wanted), &target, "thing", &|_| ()).await.unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(!target.exists());
        }
    }

    #[test]
    fn an_integrity_is_a_whole_hash() {
        assert!(Digest::integrity("sha512-AAAA").is_err());
        assert!(Digest::integrity("sha1-AAAA").is_err());
        let whole = format!("sha512-{}", BASE64_STANDARD.encode([7; 64]));
        assert_eq!(Digest::integrity(&whole).unwrap(), Digest::Sha512(vec![7; 64]));
    }
}
