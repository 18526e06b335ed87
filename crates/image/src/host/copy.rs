//! The few things that are taken from the machine's `/etc`.
//!
//! A list of what is wanted, never of what is not: a file that a package or an administrator puts
//! there tomorrow stays outside. Of what is listed, only plain files that everybody may read are
//! copied, never what looks like a private key; links are copied as links and never followed.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    tree::{make_dir, write_file},
};

/// Below `/etc`: what programs in `/usr` need to start, to resolve names and to trust servers.
const WANTED: [&str; 18] = [
    "alternatives",
    "ca-certificates.conf",
    "debian_version",
    "gai.conf",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "login.defs",
    "mime.types",
    "os-release",
    "protocols",
    "rpc",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];

/// Where each Python keeps its start-up settings, for which its library has links.
const PYTHON: &str = "sitecustomize.py";

const MAX_FILE: u64 = 16 * 1024 * 1024;
const MAX_ENTRIES: usize = 4096;

/// The wanted paths that exist, relative to `etc`, parents before children.
pub(super) fn sources(etc: &Path) -> Vec<PathBuf> {
    let mut pending: Vec<PathBuf> = WANTED.iter().rev().map(PathBuf::from).collect();
    pending.extend(python(etc));
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        let Ok(meta) = fs::symlink_metadata(etc.join(&path)) else { continue };
        if found.len() == MAX_ENTRIES {
            tracing::warn!(
                "/etc of this machine has too much for the template `host`; leaving some out"
            );
            break;
        }
        if meta.is_dir() {
            let mut children = children(&etc.join(&path), &path);
            children.sort_by(|a, b| b.cmp(a));
            pending.extend(children);
        }
        found.push(path);
    }
    found
}

/// Copies [`sources`] from `etc` to `target`.
pub(super) fn copy(etc: &Path, target: &Path) -> Result<()> {
    for path in sources(etc) {
        let (from, to) = (etc.join(&path), target.join(&path));
        let meta = fs::symlink_metadata(&from).map_err(Error::io("read", &from))?;
        if let Some(parent) = to.parent().filter(|parent| !parent.exists()) {
            make_dir(parent, 0o755)?;
        }
        if meta.is_dir() {
            make_dir(&to, 0o755)?;
        } else if meta.is_symlink() {
            let link = fs::read_link(&from).map_err(Error::io("read", &from))?;
            symlink(link, &to).map_err(Error::io("link", &to))?;
        } else if let Some(content) = public_content(&from)? {
            write_file(&to, 0o644, content)?;
        }
    }
    Ok(())
}

fn children(dir: &Path, relative: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| relative.join(entry.file_name())).collect()
}

fn python(etc: &Path) -> Vec<PathBuf> {
    let dirs = children(etc, Path::new(""));
    let versions = dirs.into_iter().filter(|dir| dir.to_string_lossy().starts_with("python3"));
    versions.map(|dir| dir.join(PYTHON)).collect()
}

/// What stands in a plain file that every user of the machine may read.
fn public_content(path: &Path) -> Result<Option<Vec<u8>>> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(no_follow.bits() as i32)
        .open(path)
        .map_err(Error::io("open", path))?;
    let meta = file.metadata().map_err(Error::io("read", path))?;
    if !meta.is_file() || meta.mode() & 0o004 == 0 || meta.size() > MAX_FILE {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content).map_err(Error::io("read", path))?;
    let secret = content.windows(12).any(|window| window == b"PRIVATE KEY-");
    Ok((!secret).then_some(content))
}
