//! The measuring client: one program, run on this machine or in a sandbox.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

use super::refused;
use crate::{
    client::{
        Remote,
        process::{Config, Data, Event, Signal},
        remote::{Launch, Running},
    },
    failure::{Failure, Result},
};

const PROGRAM: &str = include_str!("client.py");
const PYTHON: &str = "python3";
/// A run of the client takes no longer.
const LIMIT: Duration = Duration::from_secs(300);

/// Where the client runs.
pub(super) enum Client<'a> {
    Here,
    /// On this machine, trusting the certificates in a file alone.
    Trusting(PathBuf),
    In(&'a Remote),
}

/// Flows that a client inside keeps open.
pub(super) struct Held<'a> {
    remote: &'a Remote,
    running: Running<'a>,
}

impl Client<'_> {
    /// # Errors
    /// A server that does not let its sandboxes reach the target; a template without Python.
    pub(super) async fn check(&self, at: SocketAddr) -> Result<()> {
        self.first(at, 1).await.map(drop)
    }

    /// How long each connect and first byte took.
    pub(super) async fn first(&self, at: SocketAddr, number: u32) -> Result<Vec<Duration>> {
        self.measure(at, "first", &[number]).await
    }

    /// How long each connect, TLS handshake and first byte of an answer took.
    pub(super) async fn sealed(&self, at: SocketAddr, number: u32) -> Result<Vec<Duration>> {
        self.measure(at, "sealed", &[number]).await
    }

    /// How long it took to receive so much by so many flows on one processor, from the request on.
    pub(super) async fn down(
        &self,
        at: SocketAddr,
        flows: u32,
        mebibytes: u32,
        processor: u32,
    ) -> Result<Duration> {
        let took = self.measure(at, "down", &[flows, mebibytes, processor]).await?;
        took.first().copied().ok_or_else(|| Failure::Protocol("the client said nothing".into()))
    }

    async fn measure(&self, at: SocketAddr, what: &str, numbers: &[u32]) -> Result<Vec<Duration>> {
        let words = words(at, what, numbers);
        let (fine, stdout, stderr) = match self {
            Self::Here | Self::Trusting(_) => {
                let roots = if let Self::Trusting(file) = self { Some(file) } else { None };
                let done = Command::new(PYTHON)
                    .envs(roots.map(|file| ("SSL_CERT_FILE", file)))
                    .args(&words)
                    .stdin(Stdio::null())
                    .kill_on_drop(true)
                    .output()
                    .await
                    .map_err(Failure::io("running python3 on this machine"))?;
                (done.status.success(), done.stdout, done.stderr)
            }
            Self::In(remote) => run(&mut remote.start(&launch(words)).await?).await?,
        };
        let said = String::from_utf8_lossy(&stderr);
        match said.trim().lines().last() {
            Some("refused") => Err(refused(at.ip())),
            last if !fine => Err(Failure::Protocol(format!(
                "the measuring client failed: {}",
                last.unwrap_or("it said nothing")
            ))),
            _ => durations(&stdout),
        }
    }
}

impl<'a> Client<'a> {
    /// Keeps so many flows open until they are ended.
    pub(super) async fn hold(&self, at: SocketAddr, flows: u32) -> Result<Held<'a>> {
        let Self::In(remote) = *self else {
            return Err(Failure::Protocol("flows are held by sandboxes".into()));
        };
        let mut running = remote.start(&launch(words(at, "hold", &[flows]))).await?;
        while let Some(event) = running.next().await? {
            match event {
                Event::Data(Data::Stdout(_)) => return Ok(Held { remote, running }),
                Event::End(_) => break,
                _ => {}
            }
        }
        Err(Failure::Protocol(format!("{flows} flows could not be opened")))
    }
}

impl Held<'_> {
    pub(super) async fn end(self) -> Result<()> {
        self.remote.signal(self.running.pid, Signal::Kill).await
    }
}

fn words(at: SocketAddr, what: &str, numbers: &[u32]) -> Vec<String> {
    let (address, port) = (at.ip().to_string(), at.port().to_string());
    let mut words = vec!["-c".to_owned(), PROGRAM.to_owned(), address, port, what.to_owned()];
    words.extend(numbers.iter().map(u32::to_string));
    words
}

fn launch(args: Vec<String>) -> Launch {
    let process = Config { cmd: PYTHON.into(), args, ..Config::default() };
    Launch { process, timeout: Some(LIMIT), ..Launch::default() }
}

async fn run(running: &mut Running<'_>) -> Result<(bool, Vec<u8>, Vec<u8>)> {
    let (mut fine, mut stdout, mut stderr) = (false, Vec::new(), Vec::new());
    while let Some(event) = running.next().await? {
        match event {
            Event::Data(Data::Stdout(data)) => stdout.extend(data.0),
            Event::Data(Data::Stderr(data)) => stderr.extend(data.0),
            Event::End(end) => fine = end.code() == 0,
            _ => {}
        }
    }
    Ok((fine, stdout, stderr))
}

/// One JSON list of nanoseconds.
fn durations(stdout: &[u8]) -> Result<Vec<Duration>> {
    let nanoseconds: Vec<u64> = serde_json::from_slice(stdout)
        .map_err(|error| Failure::Protocol(format!("the measuring client's answer: {error}")))?;
    Ok(nanoseconds.into_iter().map(Duration::from_nanos).collect())
}
