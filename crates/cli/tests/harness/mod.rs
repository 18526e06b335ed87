//! Runs the real binary, and a real server for those tests that need one.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    io::Write as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// What one run left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// # Panics
    /// If it did not end with `code`.
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The error object on stderr, which `--json` makes its last line.
    pub fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        let value: Value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        value["error"].clone()
    }
}

/// The binary, with nothing of the caller's environment that would lead it elsewhere.
pub fn command(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soulbox"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("E2B_") || name.starts_with("SOULBOX_") {
            command.env_remove(name);
        }
    }
    command.env("SOULBOX_DATA_DIR", data_dir).stdin(Stdio::null());
    command
}

pub fn soulbox<A: AsRef<OsStr>>(data_dir: &Path, args: impl IntoIterator<Item = A>) -> Ran {
    command(data_dir).args(args).output().expect("runs").into()
}

pub fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A server on a data directory and a port of its own; it and its sandboxes end with this.
#[derive(Debug)]
pub struct Server {
    pub dir: TempDir,
    child: Option<Child>,
}

impl Server {
    pub fn start() -> Self {
        let mut server = Self::idle();
        server.run(&[]);
        server
    }

    /// Not started yet.
    pub fn idle() -> Self {
        Self { dir: dir(), child: None }
    }

    /// Starts it, again if need be, and waits until it serves.
    pub fn run(&mut self, more: &[&str]) {
        assert!(
            rustix::process::geteuid().is_root(),
            "sandboxes are made by root: run this as root"
        );
        let child = command(self.dir.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--no-base"])
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        let child = self.child.insert(child);
        let began = Instant::now();
        let file = self.dir.path().join("server.json");
        // One that a killed server left names another process.
        while announced(&file) != Some(child.id()) {
            assert!(began.elapsed() < Duration::from_secs(60), "not ready within a minute");
            assert_eq!(child.try_wait().expect("waitable"), None, "the server ended");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// Kills it, as a power failure would.
    pub fn crash(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("killed");
        child.wait().expect("waitable");
    }

    /// Asks it to end and waits.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        signal(child.id(), rustix::process::Signal::TERM);
        child.wait().expect("waitable").code()
    }

    pub fn cli<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        soulbox(self.dir.path(), args)
    }

    /// With bytes on standard input.
    pub fn cli_with(&self, args: &[&str], stdin: &[u8]) -> Ran {
        let mut child = command(self.dir.path())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut pipe = child.stdin.take().expect("piped");
        let stdin = stdin.to_vec();
        let writer = std::thread::spawn(move || {
            let _ = pipe.write_all(&stdin);
        });
        let ran = child.wait_with_output().expect("ends").into();
        writer.join().expect("written");
        ran
    }

    /// A sandbox of the template that is always there.
    pub fn sandbox(&self) -> String {
        let ran = self.cli(["sandbox", "create", "--template", "host"]).ended_with(0);
        ran.stdout.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        let _ = self.cli(["sandbox", "kill", "--all"]);
        self.stop();
    }
}

fn announced(file: &Path) -> Option<u32> {
    let text = std::fs::read(file).ok()?;
    let said: Value = serde_json::from_slice(&text).ok()?;
    said["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("signalled");
}
