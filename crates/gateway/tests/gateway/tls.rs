use std::{os::unix::fs::PermissionsExt, path::Path, process::Output, sync::Arc, time::Duration};

use axum::Router;
use soulbox_gateway::{
    Config,
    tls::{self, TlsError},
};
use tokio::process::Command;

use crate::support::Stage;

async fn secure(dir: &Path, domain: Option<&str>) -> (Stage, tls::LocalTls) {
    let tls = tls::local(dir, domain).unwrap();
    let config = Config { domain: domain.map(str::to_owned), ..Config::default() };
    let stage = Stage::with(config, Some(Arc::clone(&tls.config))).await;
    stage
        .http(
            3000,
            Router::new().fallback(|r: axum::extract::Request| async move {
                format!("{} {:?}", r.headers()["host"].to_str().unwrap(), r.version())
            }),
        )
        .await;
    (stage, tls)
}

/// curl with only `authority` trusted, and every name at the stage's address.
async fn curl(stage: &Stage, authority: &Path, arguments: &[&str]) -> Output {
    let port = stage.address.port();
    Command::new("curl")
        .args(["-sS", "--max-time", "10", "-w", "\n%{http_version} %{http_code}", "--cacert"])
        .arg(authority)
        .arg("--connect-to")
        .arg(format!("::127.0.0.1:{port}"))
        .args(arguments)
        .output()
        .await
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn a_verifying_client_reaches_every_name_over_http2_and_http1() {
    let dir = tempfile::tempdir().unwrap();
    let (stage, tls) = secure(dir.path(), Some("box.example")).await;
    let ca = &tls.authority;
    let port = stage.address.port();
    for domain in ["localhost", "box.example"] {
        let url = format!("https://3000-{}.{domain}:{port}/", stage.id);
        let host = format!("3000-{}.{domain}:{port}", stage.id);
        let got = text(&curl(&stage, ca, &[&url]).await);
        assert_eq!(got, format!("{host} HTTP/1.1\n2 200"));
        let got = text(&curl(&stage, ca, &["--http1.1", &url]).await);
        assert_eq!(got, format!("{host} HTTP/1.1\n1.1 200"));
    }
    for url in [
        "https://localhost/health",
        "https://127.0.0.1/health",
        "https://[::1]/health",
        "https://api.box.example/health",
    ] {
        let url = url.replace("/health", &format!(":{port}/health"));
        assert_eq!(text(&curl(&stage, ca, &[&url]).await), "api\n2 200", "{url}");
    }
}

#[tokio::test]
async fn the_authority_is_good_for_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (stage, tls) = secure(dir.path(), None).await;
    let output = curl(&stage, &tls.authority, &["https://www.example.org/"]).await;
    assert!(!output.status.success());

    // Even its owner cannot sign another name.
    let key = rcgen::KeyPair::from_pem(
        &std::fs::read_to_string(dir.path().join("localhost/ca.key")).unwrap(),
    )
    .unwrap();
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in"])
        .arg(&tls.authority)
        .output()
        .await
        .unwrap();
    let shown = text(&shown);
    assert!(shown.contains("Name Constraints: critical"), "{shown}");
    assert!(shown.contains("DNS:localhost") && shown.contains("pathlen:0"), "{shown}");
    assert!(!key.public_key_raw().is_empty());
}

#[tokio::test]
async fn the_authority_is_made_once_and_kept_private() {
    let dir = tempfile::tempdir().unwrap();
    let first = tls::local(dir.path(), None).unwrap();
    assert!(first.created);
    let pem = std::fs::read(&first.authority).unwrap();
    let key = dir.path().join("localhost/ca.key");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&key), 0o600);
    assert_eq!(mode(key.parent().unwrap()), 0o700);

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let second = tls::local(dir.path(), None).unwrap();
    assert!(!second.created);
    assert_eq!(mode(&key), 0o600);
    assert_eq!(std::fs::read(&second.authority).unwrap(), pem);

    // Another domain needs another authority, and does not touch this one.
    let other = tls::local(dir.path(), Some("box.example")).unwrap();
    assert!(other.created && other.authority != first.authority);
    assert_eq!(std::fs::read(&first.authority).unwrap(), pem);

    // Half of it is no authority; garbage is an error that names the file.
    std::fs::remove_file(&first.authority).unwrap();
    assert!(tls::local(dir.path(), None).unwrap().created);
    std::fs::write(&key, "garbage").unwrap();
    let error = tls::local(dir.path(), None).unwrap_err();
    assert!(error.to_string().contains("ca.key"), "{error}");
}

fn pair(dir: &Path, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

#[tokio::test]
async fn certificates_from_files_and_their_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = pair(dir.path(), "a");
    let (other_cert, other_key) = pair(dir.path(), "b");
    assert!(matches!(tls::files(&cert, &other_key), Err(TlsError::Mismatch { .. })));
    assert!(matches!(tls::files(&key, &key), Err(TlsError::Empty(_) | TlsError::Pem { .. })));
    assert!(matches!(tls::files(&dir.path().join("none"), &key), Err(TlsError::Pem { .. })));
    std::fs::write(dir.path().join("empty"), "").unwrap();
    assert!(tls::files(&dir.path().join("empty"), &key).is_err());

    let tls = tls::files(&cert, &key).unwrap();
    let stage = Stage::with(Config::default(), Some(Arc::clone(&tls.config))).await;
    let url = format!("https://localhost:{}/health", stage.address.port());
    let old = dir.path().join("old.pem");
    std::fs::copy(&cert, &old).unwrap();
    assert_eq!(text(&curl(&stage, &old, &[&url]).await), "api\n2 200");

    std::fs::copy(&other_cert, &cert).unwrap();
    assert!(tls.reload().is_err());
    assert_eq!(text(&curl(&stage, &old, &[&url]).await), "api\n2 200");
    std::fs::copy(&other_key, &key).unwrap();
    tls.reload().unwrap();
    assert!(!curl(&stage, &old, &[&url]).await.status.success());
    assert_eq!(text(&curl(&stage, &cert, &[&url]).await), "api\n2 200");
}

#[tokio::test]
async fn plain_http_on_the_same_port_for_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let (stage, tls) = secure(dir.path(), None).await;
    let url = format!("http://localhost:{}/health", stage.address.port());
    assert_eq!(text(&curl(&stage, &tls.authority, &[&url]).await), "api\n1.1 200");
    let h2 = curl(&stage, &tls.authority, &["--http2-prior-knowledge", &url]).await;
    assert_eq!(text(&h2), "api\n2 200");
    let page = curl(
        &stage,
        &tls.authority,
        &["-A", "Mozilla/5.0", &url.replace("localhost", "80-iaaaaaaaaaaaaaaaaaaaa.localhost")],
    )
    .await;
    assert!(text(&page).starts_with("<!doctype html>"));
}

#[tokio::test]
async fn a_client_that_never_finishes_its_handshake_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let tls = tls::local(dir.path(), None).unwrap();
    let config = Config { header_timeout: Duration::from_millis(500), ..Config::default() };
    let stage = Stage::with(config, Some(tls.config)).await;
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x00\x05hello"] {
        let mut raw = stage.connect().await;
        raw.send(bytes).await;
        tokio::time::timeout(Duration::from_secs(3), raw.rest()).await.expect("still open");
    }
}
