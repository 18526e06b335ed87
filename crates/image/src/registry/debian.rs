//! Packages of the Debian archive, with all that they need and a template lacks.
//!
//! They are fetched by this machine's apt with settings of its own, from the mirrors that made the base
//! template and with the same keys, and installed by nobody here: what the archive holds is put into a sandbox.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use async_trait::async_trait;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    base::{self, sources::Sources},
    derived::Source,
    error::{Error, Result},
    recipe::digest,
    template::Template,
    tree,
};

/// What dpkg says of a root.
const STATUS: &str = "var/lib/dpkg/status";
const MAX_STATUS: u64 = 64 << 20;
/// One run of apt.
const LIMIT: Duration = Duration::from_secs(600);
const MAX_SAID: u64 = 64 << 10;

/// Packages by name, in the version that the archive has at the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debian {
    pub packages: &'static [&'static str],
    /// What they say they need and these uses of them do not: neither these nor what only they need is
    /// fetched. Whoever installs the packages must provide something by these names.
    pub without: &'static [&'static str],
}

#[async_trait]
impl Source for Debian {
    fn identity(&self) -> String {
        let parts = [&["debian"], self.packages, &["without"], self.without].concat();
        digest(parts, 32)
    }

    fn label(&self) -> String {
        format!("{} from Debian", self.packages.join(", "))
    }

    async fn pack(
        &self,
        parent: &Template,
        scratch: &Path,
        report: &(dyn Fn(String) + Sync),
    ) -> Result<PathBuf> {
        let sources = Sources::of_this_machine().await?;
        let status = status(parent)? + &stand_ins(self.without);
        let apt = Apt::prepare(scratch, &sources, &status)?;
        report("fetching Debian's package lists".to_owned());
        apt.run(&["update"], |_| ()).await?;
        let mut fetched = 0;
        let install = ["install", "--yes", "--no-install-recommends", "--download-only"];
        apt.run(&[&install, self.packages].concat(), |line| {
            if line.starts_with("Get:") {
                fetched += 1;
                report(format!("fetching {}: {fetched} packages", self.label()));
            }
        })
        .await?;
        let (from, target) = (apt.archives, scratch.join("packages.tar"));
        let packed = target.clone();
        let done = spawn_blocking(move || pack(&from, &packed)).await;
        let done = done.unwrap_or_else(|lost| Err(io::Error::other(lost)));
        done.map_err(Error::io("write", &target))?;
        Ok(target)
    }
}

/// What is installed in `template`. Its layers may be those of hostile sandboxes: nothing in them
/// leads anywhere else.
fn status(template: &Template) -> Result<String> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for layer in &template.layers {
        let root = rustix::fs::openat(
            CWD,
            layer,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let root = root.map_err(|error| Error::io("open", layer)(error.into()))?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat2(&root, STATUS, flags, Mode::empty(), inside) {
            Ok(file) => fs::File::from(file),
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(Error::io("open", layer.join(STATUS))(error.into())),
        };
        let read = || {
            let about = file.metadata()?;
            if !about.is_file() || about.len() > MAX_STATUS {
                return Err(io::Error::other("not a list of packages"));
            }
            let mut text = String::new();
            (&file).take(MAX_STATUS).read_to_string(&mut text)?;
            Ok(text)
        };
        return read().map_err(Error::io("read", layer.join(STATUS)));
    }
    Err(Error::Unsupported(format!("template `{}` has no Debian packages", template.name)))
}

/// Entries that say that `names` are installed.
fn stand_ins(names: &[&str]) -> String {
    let entry = |name: &&str| {
        format!(
            "Package: {name}\nStatus: install ok installed\nMaintainer: none\n\
             Architecture: all\nVersion: 9999\nDescription: stand-in\n\n"
        )
    };
    names.iter().map(entry).collect()
}

/// apt that knows nothing of this machine but its mirrors.
struct Apt {
    config: PathBuf,
    archives: PathBuf,
    proxies: Vec<(String, std::ffi::OsString)>,
}

impl Apt {
    fn prepare(scratch: &Path, sources: &Sources, status: &str) -> Result<Self> {
        let archives = scratch.join("archives");
        for dir in [scratch.join("lists/partial"), archives.join("partial")] {
            tree::make_dir(&dir, 0o755)?;
        }
        let (list, known) = (scratch.join("sources.list"), scratch.join("status"));
        tree::write_file(&list, 0o600, sources.list())?;
        tree::write_file(&known, 0o600, status)?;
        let path = |name: &str, path: &Path| format!("{name} \"{}\";\n", path.display());
        let mut config = [
            path("Dir::State::status", &known),
            path("Dir::State::Lists", &scratch.join("lists")),
            path("Dir::Cache", &scratch.join("cache")),
            path("Dir::Cache::Archives", &archives),
            path("Dir::Etc::SourceList", &list),
        ]
        .concat();
        // Neither this machine's sources nor its hooks. Root alone may write to the directory.
        for name in ["SourceParts", "Main", "Parts", "Preferences", "PreferencesParts"] {
            config += &format!("Dir::Etc::{name} \"/dev/null\";\n");
        }
        config += "APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n";
        // Without all lists it would take what is older, security updates last of all.
        config += "APT::Update::Error-Mode \"any\";\n";
        for option in base::APT_OPTIONS.iter().copied().chain(sources.apt_options()) {
            config += &format!("{option};\n");
        }
        let file = scratch.join("apt.conf");
        tree::write_file(&file, 0o600, config)?;
        let own = sources.proxies().map(|(name, value)| (name.to_owned(), value.into()));
        let proxies = own.chain(base::proxies()).collect();
        Ok(Self { config: file, archives, proxies })
    }

    /// # Errors
    /// What apt said last, and what to do about it.
    async fn run(&self, arguments: &[&str], mut hear: impl FnMut(&str)) -> Result<()> {
        let mut command = Command::new("apt-get");
        command.arg("--quiet").args(arguments).env_clear();
        command.env("PATH", base::PATH).env("LC_ALL", "C").env("APT_CONFIG", &self.config);
        command.envs(self.proxies.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawned = command.kill_on_drop(true).spawn();
        let mut child = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::ToolMissing { tool: "apt-get", package: "apt" },
            _ => Error::io("run", "apt-get")(error),
        })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let listen = async {
            let Some(out) = out else { return Ok(()) };
            let mut lines = BufReader::new(out).lines();
            while let Some(line) = lines.next_line().await? {
                hear(&line);
            }
            Ok(())
        };
        let complain = async {
            let mut said = Vec::new();
            if let Some(err) = err {
                err.take(MAX_SAID).read_to_end(&mut said).await?;
            }
            Ok(String::from_utf8_lossy(&said).into_owned())
        };
        let failed =
            |advice: String, log: String| Error::Build { name: "packages".into(), advice, log };
        let ended = async { tokio::try_join!(listen, complain, child.wait()) };
        let ended = timeout(LIMIT, ended).await.map_err(|_| {
            failed("the Debian mirror is too slow".into(), format!("apt-get {arguments:?}"))
        })?;
        let ((), said, status) = ended.map_err(Error::io("run", "apt-get"))?;
        if status.success() {
            return Ok(());
        }
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        let advice = base::advice(&lines)
            .unwrap_or_else(|| format!("apt-get ended with {status}; its words follow"));
        Err(failed(advice, said))
    }
}

fn pack(archives: &Path, target: &Path) -> io::Result<()> {
    let mut packed = tar::Builder::new(fs::File::create_new(target)?);
    for entry in fs::read_dir(archives)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            packed.append_path_with_name(entry.path(), entry.file_name())?;
        }
    }
    packed.into_inner().map(drop)
}

#[cfg(test)]
#[path = "debian_tests.rs"]
mod tests;
