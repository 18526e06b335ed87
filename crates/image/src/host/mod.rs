//! The `host` template: this machine's own `/usr`, seen read-only, with a fresh `/etc`.
//!
//! Nothing else of the machine appears inside, and nothing is copied from it that not every local
//! user may read anyway.

mod copy;
mod etc;

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use crate::{
    error::{Error, Result},
    recipe::{Description, Recipe, Workshop, fingerprint},
    settings,
    templates::HOST,
    tree::{make_dir, own, write_file},
};

/// Raise it when a change of this module asks for a new build.
const VERSION: &str = "1";

const UID: u32 = 1000;

/// Links into `/usr` that a machine with merged `/usr` has at its root.
const LINKS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Directories of the root, with their modes; most of them get something mounted on.
const DIRS: [(&str, u32); 20] = [
    ("usr", 0o755),
    ("proc", 0o755),
    ("sys", 0o755),
    ("dev", 0o755),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("etc", 0o755),
    ("root", 0o700),
    ("home", 0o755),
    ("home/user", 0o755),
    ("code", 0o777),
    ("mnt", 0o755),
    ("media", 0o755),
    ("opt", 0o755),
    ("srv", 0o755),
    ("var/tmp", 0o1777),
    ("var/log", 0o755),
    ("var/lib", 0o755),
    ("var/cache", 0o755),
    ("var/spool", 0o755),
];

#[derive(Debug)]
pub(crate) struct Host {
    /// The machine's root directory.
    machine: PathBuf,
}

impl Host {
    pub fn new() -> Self {
        Self { machine: "/".into() }
    }

    fn make(machine: &Path, root: &Path) -> Result<()> {
        make_dir(root, 0o755)?;
        for (dir, mode) in DIRS {
            make_dir(&root.join(dir), mode)?;
        }
        link_into_usr(machine, root)?;
        std::os::unix::fs::symlink("../run", root.join("var/run"))
            .map_err(Error::io("link", root.join("var/run")))?;
        etc::write(machine, &root.join("etc"))?;
        for (home, uid) in [("root", 0), ("home/user", UID)] {
            for (name, text) in etc::DOT_FILES {
                let path = root.join(home).join(name);
                write_file(&path, 0o644, text)?;
                own(&path, uid, uid)?;
            }
            own(&root.join(home), uid, uid)?;
        }
        settings::write(root, HOST)
    }
}

#[async_trait]
impl Recipe for Host {
    fn name(&self) -> &str {
        HOST
    }

    /// Follows the machine: a library or alternative that it replaces asks for a new skeleton.
    fn fingerprint(&self) -> String {
        let seen = copy::sources(&self.machine.join("etc")).into_iter().map(|source| {
            let found = fs::symlink_metadata(self.machine.join("etc").join(&source));
            let (size, seconds) = found.map_or((0, 0), |meta| (meta.size(), meta.mtime()));
            format!("{} {size} {seconds}", source.display())
        });
        let own = [VERSION].into_iter().chain(settings::FILES.map(|(.., text)| text));
        fingerprint(own.map(str::to_owned).chain(etc::texts()).chain(seen))
    }

    async fn build(&self, workshop: &Workshop) -> Result<Description> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        workshop.report.report(10, "writing the skeleton");
        let (machine, root) = (self.machine.clone(), workshop.rootfs.clone());
        let made = spawn_blocking(move || Self::make(&machine, &root)).await;
        made.map_err(|_| Error::Cancelled(HOST.into()))??;
        Ok(Description {
            default_user: "user".into(),
            binds: vec![(self.machine.join("usr"), "/usr".into())],
            ..Description::default()
        })
    }
}

/// Repeats the machine's links of its root into `/usr`.
fn link_into_usr(machine: &Path, root: &Path) -> Result<()> {
    for name in LINKS {
        let source = machine.join(name);
        let target = match fs::read_link(&source) {
            Ok(target) => target,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => {
                return Err(Error::Unsupported(format!(
                    "template `host` needs a machine with merged /usr, and {} is a directory: install `usrmerge`, or use the template `base`",
                    source.display()
                )));
            }
        };
        if target.strip_prefix("/").unwrap_or(&target).iter().next() != Some(OsStr::new("usr")) {
            return Err(Error::Unsupported(format!(
                "template `host` needs {} to be a link into /usr, and it leads to {}: use the template `base`",
                source.display(),
                target.display()
            )));
        }
        let link = root.join(name);
        std::os::unix::fs::symlink(target, &link).map_err(Error::io("link", &link))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
