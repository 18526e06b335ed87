//! The `base` template: a Debian userland that mmdebstrap makes from Debian's packages.
//!
//! mmdebstrap runs in a mount and pid namespace of its own: what it mounts in the new root never
//! appears on this machine, and its end, whatever the cause, leaves neither process nor mount.

mod progress;
pub(crate) mod sources;

use std::{
    collections::VecDeque,
    ffi::OsString,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    task::spawn_blocking,
    time::timeout,
};

use self::{progress::Phases, sources::Sources};
use crate::{
    error::{Error, Result},
    recipe::{Description, Recipe, Workshop, fingerprint},
    settings,
    templates::BASE,
    tree,
};

/// Raise it when a change outside of [`PACKAGES`] and the scripts asks for a new build.
const VERSION: &str = "2";

const PACKAGES: [&str; 24] = [
    "attr",
    "bash",
    "ca-certificates",
    "coreutils",
    "curl",
    "git",
    "iproute2",
    "less",
    "libnss-myhostname",
    "locales",
    "ncurses-base",
    "ncurses-bin",
    "ncurses-term",
    "nodejs",
    "npm",
    "openssh-client",
    "procps",
    "python-is-python3",
    "python3",
    "python3-pip",
    "python3-venv",
    "sudo",
    "util-linux",
    "wget",
];

/// PID 1 of the build's namespace; its end takes every process in it along. It ends when mmdebstrap
/// does, and when its standard input does: a server that was killed leaves no build behind.
const SUPERVISOR: &str = r#"
exec 3<&0
trap 'exit 143' TERM
{ cat <&3 >/dev/null; kill -TERM 1; } &
mmdebstrap "$@" 3<&- </dev/null &
wait $!
"#;

const CUSTOMIZE: &str = include_str!("customize.sh");

/// Files that a sandbox has no use for; licences stay.
const DPKG_OPTIONS: [&str; 6] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
];

pub(crate) const APT_OPTIONS: [&str; 3] =
    ["Acquire::Retries \"3\"", "Acquire::http::Timeout \"30\"", "Acquire::https::Timeout \"30\""];

/// Passed on from the environment of the server.
const PROXY_VARIABLES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];

pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Left empty: a sandbox mounts its own there.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "run"];

/// A build that says nothing for so long will not end.
const SILENCE: Duration = Duration::from_secs(300);
const LOG_LINES: usize = 12;
const LOG_LINE_BYTES: usize = 400;

#[derive(Debug)]
pub(crate) struct Base {
    environment: Vec<(String, OsString)>,
}

impl Base {
    /// With the proxies that this process was started with.
    pub fn from_environment() -> Self {
        Self { environment: proxies() }
    }

    fn command(&self, sources: &Sources, workshop: &Workshop) -> Result<Command> {
        let script = workshop.dir.join("customize.sh");
        tree::write_file(&script, 0o600, CUSTOMIZE)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", SUPERVISOR, "sh"]);
        command.args(["--verbose", "--mode=root", "--format=directory", "--variant=minbase"]);
        command.arg(format!("--include={}", PACKAGES.join(",")));
        command.args(DPKG_OPTIONS.iter().map(|option| format!("--dpkgopt={option}")));
        let options = APT_OPTIONS.iter().copied().chain(sources.apt_options());
        command.args(options.map(|option| format!("--aptopt={option}")));
        command.arg("--customize-hook=sh \"$CUSTOMIZE\" \"$1\"");
        command.arg(sources.suite()).arg(&workshop.rootfs).args(sources.entries());
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C").env("HOME", "/root");
        command.env("CUSTOMIZE", script);
        command.envs(sources.proxies());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        Ok(command)
    }
}

/// The proxies that this process was started with.
pub(crate) fn proxies() -> Vec<(String, OsString)> {
    let set = |name: &&str| std::env::var_os(name).map(|value| ((*name).to_owned(), value));
    PROXY_VARIABLES.iter().filter_map(set).collect()
}

#[async_trait]
impl Recipe for Base {
    fn name(&self) -> &str {
        BASE
    }

    fn fingerprint(&self) -> String {
        let fixed = [VERSION, CUSTOMIZE].into_iter().chain(PACKAGES).chain(DPKG_OPTIONS);
        fingerprint(fixed.chain(settings::FILES.map(|(.., text)| text)))
    }

    async fn build(&self, workshop: &Workshop) -> Result<Description> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        for (tool, package) in [("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux")] {
            if !PATH.split(':').any(|dir| Path::new(dir).join(tool).exists()) {
                return Err(Error::ToolMissing { tool, package });
            }
        }
        workshop.report.report(0, "looking up package sources");
        let sources = Sources::of_this_machine().await?;
        let mut command = self.command(&sources, workshop)?;
        let mut child = command.spawn().map_err(Error::io("run", "unshare"))?;
        let (status, log) = follow(&mut child, workshop).await?;
        if !status.success() {
            return Err(failure(status, log));
        }
        let rootfs = workshop.rootfs.clone();
        let written = spawn_blocking(move || {
            sources.write_into(&rootfs)?;
            settings::write(&rootfs, BASE)?;
            for dir in MOUNT_POINTS {
                tree::empty_dir(&rootfs.join(dir))?;
            }
            Ok(())
        })
        .await;
        written.map_err(|_| Error::Cancelled(BASE.into()))??;
        Ok(Description { default_user: "user".into(), ..Description::default() })
    }
}

/// Reads what the build writes, reports how far it is, and returns the end of it.
async fn follow(child: &mut Child, workshop: &Workshop) -> Result<(ExitStatus, Log)> {
    // Waiting for the child would close it, and with it end the build.
    let _alive = child.stdin.take();
    let mut phases = Phases::default();
    let mut log = Log::default();
    let mut out = Lines::new(child.stdout.take());
    let mut err = Lines::new(child.stderr.take());
    while out.is_open() || err.is_open() {
        let next = async {
            tokio::select! {
                line = out.next(), if out.is_open() => line,
                line = err.next(), if err.is_open() => line,
            }
        };
        let line = match timeout(SILENCE, next).await {
            Ok(Some(line)) => line,
            Ok(None) => continue,
            Err(_) => {
                log.push(format!("(nothing more for {} s)", SILENCE.as_secs()));
                child.start_kill().map_err(Error::io("kill", "mmdebstrap"))?;
                break;
            }
        };
        if let Some((percent, step)) = phases.read(&line) {
            workshop.report.report(percent, step);
        }
        log.push(line);
    }
    let status = child.wait().await.map_err(Error::io("wait for", "mmdebstrap"))?;
    Ok((status, log))
}

/// Lines of a pipe, at most [`LOG_LINE_BYTES`] of each.
struct Lines<R> {
    pipe: Option<BufReader<R>>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { pipe: pipe.map(BufReader::new), line: Vec::new() }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// The next line; `None` when the pipe has ended. Cancelling it loses nothing.
    async fn next(&mut self) -> Option<String> {
        loop {
            let pipe = self.pipe.as_mut()?;
            let chunk = match pipe.fill_buf().await {
                Ok(chunk) if !chunk.is_empty() => chunk,
                _ => {
                    self.pipe = None;
                    break;
                }
            };
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let (text, used) = end.map_or((chunk, chunk.len()), |end| (&chunk[..end], end + 1));
            let room = LOG_LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            pipe.consume(used);
            if end.is_some() {
                break;
            }
        }
        if self.line.is_empty() && !self.is_open() {
            return None;
        }
        let line = std::mem::take(&mut self.line);
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

/// The last lines, and every one that says that something is wrong.
#[derive(Debug, Default)]
struct Log {
    errors: Vec<String>,
    last: VecDeque<String>,
}

impl Log {
    fn push(&mut self, line: String) {
        if (line.starts_with("E: ") || line.starts_with("Err:")) && self.errors.len() < LOG_LINES {
            self.errors.push(line);
        } else {
            if self.last.len() == LOG_LINES {
                self.last.pop_front();
            }
            self.last.push_back(line);
        }
    }

    fn lines(self) -> Vec<String> {
        self.last.into_iter().chain(self.errors).collect()
    }
}

/// What to do when the log has one of these words, most telling first.
const ADVICE: [(&[&str], &str); 5] = [
    (
        &["No space left", "Disk quota exceeded"],
        "the disk is full: `base` needs about 1 GiB in the data directory",
    ),
    (
        &["NO_PUBKEY", "EXPKEYSIG", "is not signed", "BADSIG", "keyring"],
        "the package archive is not signed by a key that this machine trusts: install `debian-archive-keyring`, or check the mirror in the apt sources",
    ),
    (
        &["is not valid yet", "is expired"],
        "the package lists are from another time: check this machine's clock and the mirror in the apt sources",
    ),
    (
        &[
            "Could not resolve",
            "Temporary failure resolving",
            "Could not connect",
            "Unable to connect",
            "Connection failed",
            "connection timed out",
            "Connection timed out",
            "Network is unreachable",
            "Could not handshake",
        ],
        "the Debian mirror cannot be reached: check the network and the proxy (`http_proxy`), or use the template `host`, which needs no download",
    ),
    (
        &["Unable to locate package", "has no installation candidate"],
        "the mirror lacks a package: check that the apt sources name Debian's `main`",
    ),
];

fn failure(status: ExitStatus, log: Log) -> Error {
    let lines = log.lines();
    let advice = advice(&lines);
    let advice =
        advice.unwrap_or_else(|| format!("mmdebstrap ended with {status}; its last words follow"));
    Error::Build { name: BASE.into(), advice, log: lines.join("\n") }
}

/// What to do about a failure of apt that said this.
pub(crate) fn advice(lines: &[String]) -> Option<String> {
    let says = |word: &&str| lines.iter().any(|line| line.contains(word));
    let known = ADVICE.iter().find(|(words, _)| words.iter().any(says));
    known.map(|(_, advice)| (*advice).to_owned())
}

#[cfg(test)]
mod tests;
