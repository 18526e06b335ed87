//! What lies where in the data directory, and what a running server says of itself there.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

const LEAST_SPACE: u64 = 64 << 20;

/// The directory that holds everything of one server.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

/// `server.json`: how clients on this machine find the running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    pub pid: u32,
    /// For `E2B_API_URL` and `E2B_SANDBOX_URL`.
    pub url: String,
    /// For `E2B_DOMAIN`: where host names of sandboxes live, with the port if it is not the usual one.
    pub domain: String,
    /// The authority to trust, for a certificate that the server made itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    pub version: String,
}

/// Held as long as a process uses the data directory; the kernel frees it with the process.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

/// How long a server that was killed may seem to hold its lock: a child that it was just making has the
/// lock too, until it executes its program.
const RELEASE: Duration = Duration::from_secs(5);

/// Whether a process of this number runs.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z")))
}

impl DataDir {
    /// Clients learn of files in it and may be elsewhere, so a relative path is taken from here.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self(std::path::absolute(&path).unwrap_or(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn database(&self) -> PathBuf {
        self.0.join("soulbox.db")
    }

    pub fn api_key(&self) -> PathBuf {
        self.0.join("api-key")
    }

    pub fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }

    fn announcement_file(&self) -> PathBuf {
        self.0.join("server.json")
    }

    /// Makes the directory, for its owner alone, if it is not there.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn create(&self) -> Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(Failure::io(format!("data directory {}", self.0.display())))?;
        let mode = fs::metadata(&self.0).map_or(0, |about| about.permissions().mode());
        if mode & 0o022 != 0 {
            tracing::warn!(
                data_dir = %self.0.display(),
                "other users may write to the data directory: `chmod 700` it"
            );
        }
        Ok(())
    }

    /// Refuses a disk on which not even the database would fit.
    ///
    /// # Errors
    /// If less than 64 MiB are free.
    pub fn check_space(&self) -> Result<()> {
        let stat = rustix::fs::statvfs(&self.0)
            .map_err(|error| Failure::io(self.0.display().to_string())(error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= LEAST_SPACE {
            return Ok(());
        }
        Err(Failure::Environment {
            message: format!(
                "the disk of {} is full: {} are free",
                self.0.display(),
                crate::output::bytes(free)
            ),
            hint: "free some space there, or use another --data-dir".into(),
        })
    }

    /// Takes the directory for this process.
    ///
    /// # Errors
    /// A conflict that names the process which has it.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.0.join("lock");
        let context = || Failure::io(format!("lock {}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(context())?;
        let began = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(context()(error.into())),
            }
            let mut holder = String::new();
            file.rewind().map_err(context())?;
            // A few digits; a foreign file would be longer.
            let _ = (&mut file).take(32).read_to_string(&mut holder);
            let holder = holder.trim();
            if lives(holder) || began.elapsed() > RELEASE {
                return Err(self.in_use(holder));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mark = |file: &mut fs::File| -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        mark(&mut file).map_err(context())?;
        Ok(Lock { _file: file })
    }

    fn in_use(&self, pid: &str) -> Failure {
        let serving = match self.announcement() {
            Ok(Some(found)) if found.pid.to_string() == pid => format!(" at {}", found.url),
            _ => String::new(),
        };
        Failure::Model {
            error: soulbox_model::Error::Conflict(format!(
                "{} is in use by process {pid}{serving}",
                self.0.display()
            )),
            hint: Some(format!(
                "use that server, end it with `kill {pid}`, or give another --data-dir"
            )),
        }
    }

    /// What the running server says of itself, if there is one or was one that ended badly.
    ///
    /// # Errors
    /// If the file is there and can't be read.
    pub fn announcement(&self) -> Result<Option<Announcement>> {
        let path = self.announcement_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io(path.display().to_string())(error)),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Failure::Protocol(format!("{}: {error}", path.display())))
    }

    /// # Errors
    /// If the file can't be written.
    pub fn announce(&self, announcement: &Announcement) -> Result<()> {
        let path = self.announcement_file();
        let staged = path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(announcement)
            .map_err(|error| Failure::Protocol(error.to_string()))?;
        fs::write(&staged, text)
            .and_then(|()| fs::rename(&staged, &path))
            .map_err(Failure::io(path.display().to_string()))
    }

    /// Takes the announcement back. Best effort: a stale one is told from a live one by its pid.
    pub fn withdraw(&self) {
        if let Err(error) = fs::remove_file(self.announcement_file()) {
            tracing::warn!(%error, "server.json stays behind");
        }
    }

    /// The key that the first start made.
    ///
    /// # Errors
    /// If it is there and can't be read.
    pub fn read_api_key(&self) -> Result<Option<String>> {
        let path = self.api_key();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io(path.display().to_string())(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_elsewhere_find_what_is_in_it() {
        let data = DataDir::new("data");
        assert_eq!(data.path(), std::env::current_dir().expect("here").join("data"));
        assert_eq!(DataDir::new("/data").path(), Path::new("/data"));
    }

    #[test]
    fn a_second_user_learns_who_the_first_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::new(dir.path());
        let held = data.lock().expect("free");
        data.announce(&Announcement {
            pid: std::process::id(),
            url: "http://127.0.0.1:1".into(),
            domain: "localhost:1".into(),
            ca: None,
            version: "0".into(),
        })
        .expect("written");
        let said = data.lock().expect_err("held").to_string();
        assert!(said.contains(&std::process::id().to_string()), "{said}");
        assert!(said.contains("http://127.0.0.1:1"), "{said}");
        drop(held);
        data.lock().expect("free again");
        data.withdraw();
        assert_eq!(data.announcement().expect("readable"), None);
    }
}
