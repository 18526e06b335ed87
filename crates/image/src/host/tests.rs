use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use super::*;
use crate::Templates;

/// A machine with secrets in every place that is copied from.
fn machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for sub in [
        "usr/bin",
        "usr/lib",
        "etc/ssl/certs",
        "etc/ssl/private",
        "etc/ld.so.conf.d",
        "etc/ssh",
        "home/admin",
    ] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    for (path, text, mode) in [
        ("etc/services", "ssh 22/tcp\n", 0o644),
        ("etc/ssl/certs/ca-certificates.crt", "-----BEGIN CERTIFICATE-----\n", 0o644),
        ("etc/ssl/certs/stray.pem", "-----BEGIN RSA PRIVATE KEY-----\nSECRET\n", 0o644),
        ("etc/ssl/certs/hidden.crt", "SECRET", 0o600),
        ("etc/ssl/private/server.key", "SECRET", 0o644),
        ("etc/ld.so.conf.d/x.conf", "/usr/lib/x\n", 0o644),
        ("etc/shadow", "root:SECRET:1::::::\n", 0o644),
        ("etc/passwd", "admin:SECRET:1:1::/:/bin/sh\n", 0o644),
        ("etc/ssh/ssh_host_key", "SECRET", 0o644),
        ("etc/environment", "TOKEN=SECRET\n", 0o644),
        ("etc/gitconfig", "SECRET", 0o644),
        ("home/admin/notes", "SECRET", 0o644),
    ] {
        fs::write(root.join(path), text).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::symlink("/etc/shadow", root.join("etc/ssl/certs/link.pem")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", root.join("etc/protocols")).unwrap();
    dir
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[test]
fn no_secret_of_the_machine_is_copied() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files to another user");
        return;
    }
    let (machine, target) = (machine(), tempfile::tempdir().unwrap());
    let root = target.path().join("root");
    Host::make(machine.path(), &root).unwrap();

    let all = files(&root);
    for file in &all {
        let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        assert!(!text.contains("SECRET"), "{} holds a secret", file.display());
    }
    assert!(all.contains(&root.join("etc/ssl/certs/ca-certificates.crt")));
    assert!(all.contains(&root.join("etc/services")));
    assert!(all.contains(&root.join("etc/ld.so.conf.d/x.conf")));
    // A link stays one; inside it leads to the sandbox's own file.
    assert_eq!(fs::read_link(root.join("etc/protocols")).unwrap(), Path::new("/etc/shadow"));
    assert!(!root.join("home/admin").exists());
    assert_eq!(fs::read_dir(root.join("usr")).unwrap().count(), 0);
}

#[test]
fn a_machine_without_merged_usr_is_told_so() {
    let (machine, target) = (machine(), tempfile::tempdir().unwrap());
    fs::remove_file(machine.path().join("bin")).unwrap();
    fs::create_dir(machine.path().join("bin")).unwrap();
    let error = link_into_usr(machine.path(), target.path()).unwrap_err().to_string();
    assert!(error.contains("usrmerge"), "{error}");

    fs::remove_dir(machine.path().join("bin")).unwrap();
    std::os::unix::fs::symlink("/opt/bin", machine.path().join("bin")).unwrap();
    let error = link_into_usr(machine.path(), target.path()).unwrap_err().to_string();
    assert!(error.contains("/opt/bin"), "{error}");
}

#[test]
fn a_changed_library_cache_asks_for_a_new_build() {
    let machine = machine();
    let host = Host { machine: machine.path().into() };
    let before = host.fingerprint();
    assert_eq!(host.fingerprint(), before);
    fs::write(machine.path().join("etc/ld.so.cache"), "new").unwrap();
    assert_ne!(host.fingerprint(), before);
}

#[test]
fn the_host_template_of_this_machine_builds_once_and_is_found() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can build");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let templates = Templates::open(dir.path().into()).unwrap();
    assert!(templates.resolve(HOST).is_err());

    let (one, two) = runtime.block_on(async {
        tokio::join!(templates.build(HOST, |_| ()), templates.build(HOST, |_| ()))
    });
    let built = one.unwrap();
    assert!(Arc::ptr_eq(&built, &two.unwrap()));
    assert_eq!(built.binds, [(PathBuf::from("/usr"), PathBuf::from("/usr"))]);
    assert!(built.size_bytes > 0);
    assert!(built.layers[0].join("etc/passwd").is_file());

    let again = Templates::open(dir.path().into()).unwrap();
    for name in ["host", "host:latest", "host:default"] {
        assert_eq!(*again.resolve(name).unwrap(), *built, "{name}");
    }
    assert!(again.resolve("host:v2").is_err());
}
