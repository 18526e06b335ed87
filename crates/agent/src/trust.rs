//! Certificates that the sandbox trusts beside those of its template.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// What OpenSSL, curl, git, apt and Debian's pip and Node read.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
/// What was added to it.
const ADDED: &str = "/etc/ssl/added-ca.pem";
/// Where `update-ca-certificates` finds it when it makes the bundle anew.
const SOURCE: &str = "/usr/local/share/ca-certificates/e2b-ca.crt";
/// The bundle and what was added to it where only memory can be written.
const OWN: &str = "/run/soulbox";
const IN_MEMORY: [&str; 2] = ["/run/soulbox/ca-bundle.pem", "/run/soulbox/added-ca.pem"];
/// A pipe in its place would hold whoever opens it.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;
/// A bundle of all public authorities takes about 220 KiB.
const MOST: u64 = 8 << 20;

/// Replaces what was added before by `pem`.
///
/// # Errors
/// What reading and writing the files of the sandbox reports.
pub fn install(pem: &str) -> io::Result<()> {
    match install_in(Path::new("/"), pem) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            install_in_memory(Path::new("/"), pem)
        }
        done => done,
    }
}

/// Beside a root that is read-only: programs learn of it by their environment alone.
fn install_in_memory(root: &Path, pem: &str) -> io::Result<()> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let mut bundle = read(&below(BUNDLE))?;
    if !bundle.is_empty() && !bundle.ends_with('\n') {
        bundle.push('\n');
    }
    bundle.push_str(pem);
    let own = below(OWN);
    match fs::create_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ if !is_ours(&own) => {
            return Err(io::Error::other(format!("{OWN} is somebody else's")));
        }
        _ => {}
    }
    write(&below(IN_MEMORY[0]), &bundle)?;
    write(&below(IN_MEMORY[1]), pem)
}

/// Whether nobody else can change what lies in it. Everybody may make things in `/run`, where it is memory; of
/// what they are not the owner they can neither rename nor remove anything there.
fn is_ours(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|about| {
        about.is_dir()
            && about.uid() == rustix::process::geteuid().as_raw()
            && about.mode() & 0o022 == 0
    })
}

fn install_in(root: &Path, pem: &str) -> io::Result<()> {
    if !pem.contains(BEGIN) {
        return Err(io::Error::other("it holds no certificate in PEM"));
    }
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let (bundle_file, added_file) = (below(BUNDLE), below(ADDED));
    let bundle = read(&bundle_file)?;
    let before = read(&added_file)?;
    if before == pem && bundle.contains(pem) {
        return Ok(());
    }
    // What is no certificate is not ours, and could be all over the bundle.
    let mut bundle = if before.contains(BEGIN) { bundle.replace(&before, "") } else { bundle };
    if !bundle.is_empty() && !bundle.ends_with('\n') {
        bundle.push('\n');
    }
    bundle.push_str(pem);
    // In some templates `/usr` is read-only, and nobody makes the bundle anew.
    if let Err(error) = write(&below(SOURCE), pem)
        && error.kind() != io::ErrorKind::ReadOnlyFilesystem
    {
        return Err(error);
    }
    write(&added_file, pem)?;
    write(&bundle_file, &bundle)
}

/// Where programs that bring authorities of their own learn of these. What is set already stays.
pub fn point_to(environment: &mut BTreeMap<String, String>) {
    let in_memory =
        is_ours(Path::new(OWN)) && IN_MEMORY.iter().all(|file| Path::new(file).exists());
    let [bundle, added] = if in_memory { IN_MEMORY } else { [BUNDLE, ADDED] };
    for (name, file) in [
        ("SSL_CERT_FILE", bundle),
        ("REQUESTS_CA_BUNDLE", bundle),
        ("NODE_EXTRA_CA_CERTS", added),
        ("DENO_CERT", added),
    ] {
        environment.entry(name.to_owned()).or_insert_with(|| file.to_owned());
    }
}

/// Of a regular file; nothing if there is none.
fn read(path: &Path) -> io::Result<String> {
    let opened = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is no regular file", path.display())));
    }
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// Whoever reads meanwhile sees the old text or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_added_is_replaced_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join(BUNDLE.trim_start_matches('/'));
        fs::create_dir_all(bundle.parent().unwrap()).unwrap();
        fs::write(&bundle, "PUBLIC").unwrap();
        let [one, two] = ["ONE", "TWO"].map(|text| format!("{BEGIN}\n{text}\n"));
        for pem in [&one, &two, &two] {
            install_in(dir.path(), pem).unwrap();
        }
        assert!(install_in(dir.path(), "x").is_err());
        assert_eq!(fs::read_to_string(&bundle).unwrap(), format!("PUBLIC\n{two}"));
        let added = dir.path().join(ADDED.trim_start_matches('/'));
        assert_eq!(fs::read_to_string(added).unwrap(), two);
    }

    #[test]
    fn beside_a_read_only_root_it_lies_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join(BUNDLE.trim_start_matches('/'));
        fs::create_dir_all(bundle.parent().unwrap()).unwrap();
        fs::create_dir_all(dir.path().join("run")).unwrap();
        fs::write(&bundle, "PUBLIC").unwrap();
        for pem in [format!("{BEGIN}\nONE\n"), format!("{BEGIN}\nTWO\n")] {
            install_in_memory(dir.path(), &pem).unwrap();
            let [whole, added] = IN_MEMORY.map(|path| {
                fs::read_to_string(dir.path().join(path.trim_start_matches('/'))).unwrap()
            });
            assert_eq!((whole, added), (format!("PUBLIC\n{pem}"), pem));
        }
        assert_eq!(fs::read_to_string(&bundle).unwrap(), "PUBLIC");
    }

    #[test]
    fn a_directory_that_others_made_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (run, target) = (dir.path().join("run"), dir.path().join("target"));
        fs::create_dir_all(&run).unwrap();
        fs::create_dir_all(&target).unwrap();
        std::os::unix::fs::symlink(&target, run.join("soulbox")).unwrap();
        assert!(install_in_memory(dir.path(), BEGIN).is_err());
        fs::remove_file(run.join("soulbox")).unwrap();
        fs::create_dir(run.join("soulbox")).unwrap();
        fs::set_permissions(run.join("soulbox"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(install_in_memory(dir.path(), BEGIN).is_err());
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }

    #[test]
    fn a_pipe_in_the_way_does_not_hold_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join(BUNDLE.trim_start_matches('/'));
        fs::create_dir_all(bundle.parent().unwrap()).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &bundle, mode).unwrap();
        assert!(install_in(dir.path(), BEGIN).unwrap_err().to_string().contains("regular"));
    }

    #[test]
    fn variables_that_are_set_stay() {
        let mut environment = BTreeMap::from([("SSL_CERT_FILE".to_owned(), "mine".to_owned())]);
        point_to(&mut environment);
        assert_eq!(environment["SSL_CERT_FILE"], "mine");
        assert_eq!(environment["NODE_EXTRA_CA_CERTS"], ADDED);
    }
}
