//! An engine without isolation: a sandbox is a `sleep` process and two sockets.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use soulbox_engine::{
    Conduit, ConnectError, Engine, Error, Exit, Record, Reserved, Result, SandboxSpec, Target,
    Usage,
};
use soulbox_model::{SandboxId, boot::AgentConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    process::Command,
    sync::watch,
    task::JoinHandle,
};

/// What a server leaves behind when it dies.
#[derive(Debug)]
pub struct Machine {
    dir: tempfile::TempDir,
    guests: Mutex<HashMap<SandboxId, Arc<Guest>>>,
    pub faults: Faults,
}

/// What the next calls meet.
#[derive(Debug, Default)]
pub struct Faults {
    /// Milliseconds that a create takes.
    pub create_ms: AtomicU32,
    pub creates: Mutex<VecDeque<Error>>,
    /// How many destroys fail.
    pub destroys: AtomicUsize,
    /// Destroys under way, and the most there ever were.
    pub destroying: AtomicUsize,
    pub most_destroying: AtomicUsize,
    pub destroy_ms: AtomicU32,
    /// Agents accept but do not answer.
    pub mute: AtomicBool,
    /// How many connects to an agent find its queue full.
    pub full: AtomicUsize,
    /// How many connections an agent ends before it answers.
    pub cut: AtomicUsize,
    /// How many connections an agent answers with something that is no HTTP.
    pub babble: AtomicUsize,
    /// Connections that agents took.
    pub asked: AtomicUsize,
}

#[derive(Debug)]
pub struct Guest {
    pub spec: SandboxSpec,
    agent: Mutex<Option<AgentConfig>>,
    pid: u32,
    exit: watch::Receiver<Option<Exit>>,
    oom: Arc<AtomicBool>,
    destroyed: Arc<AtomicBool>,
    /// What its agent noted.
    pub log: Arc<Mutex<Vec<Value>>>,
    pub oom_kills: AtomicU64,
    agents: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        for agent in &*self.agents.lock() {
            agent.abort();
        }
    }
}

impl Machine {
    pub fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        Arc::new(Self { dir, guests: Mutex::default(), faults: Faults::default() })
    }

    /// A server's process starts.
    pub fn engine(self: &Arc<Self>) -> Arc<TestEngine> {
        Arc::new(TestEngine { machine: Arc::clone(self), known: Mutex::default() })
    }

    pub fn guest(&self, id: &SandboxId) -> Option<Arc<Guest>> {
        self.guests.lock().get(id).cloned()
    }

    pub fn alive(&self) -> usize {
        self.guests.lock().len()
    }

    fn socket(&self, id: &SandboxId, name: &str) -> PathBuf {
        self.dir.path().join(format!("{id}.{name}"))
    }

    async fn kill(&self, id: &SandboxId) -> bool {
        let Some(guest) = self.guest(id) else { return false };
        guest.destroyed.store(true, Ordering::SeqCst);
        guest.kill();
        guest.exited().await;
        self.guests.lock().remove(id);
        true
    }

    fn spawn(spec: SandboxSpec) -> std::io::Result<Guest> {
        let mut child = Command::new("sleep")
            .arg("100000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap();
        let (exited, exit) = watch::channel(None);
        let (oom, destroyed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (saw_oom, was_destroyed) = (Arc::clone(&oom), Arc::clone(&destroyed));
        tokio::spawn(async move {
            child.wait().await.unwrap();
            exited.send_replace(Some(if was_destroyed.load(Ordering::SeqCst) {
                Exit::Destroyed
            } else {
                Exit::AgentDied { oom: saw_oom.load(Ordering::SeqCst) }
            }));
        });
        Ok(Guest {
            spec,
            agent: Mutex::default(),
            pid,
            exit,
            oom,
            destroyed,
            log: Arc::default(),
            oom_kills: AtomicU64::new(0),
            agents: Mutex::default(),
        })
    }

    fn serve(self: &Arc<Self>, id: &SandboxId, guest: &Guest) -> std::io::Result<()> {
        let control = UnixListener::bind(self.socket(id, "control"))?;
        let client = UnixListener::bind(self.socket(id, "agent"))?;
        guest.agents.lock().extend([
            tokio::spawn(serve_log(control, Arc::clone(&guest.log), Arc::clone(self))),
            tokio::spawn(serve_echo(client)),
        ]);
        Ok(())
    }
}

impl Guest {
    /// Its PID 1 dies; `oom`: for lack of memory.
    pub fn crash(&self, oom: bool) {
        self.oom.store(oom, Ordering::SeqCst);
        self.kill();
    }

    /// What it was told at its start.
    pub fn agent(&self) -> AgentConfig {
        self.agent.lock().clone().unwrap()
    }

    fn kill(&self) {
        let done = std::process::Command::new("kill").args(["-9", &self.pid.to_string()]).status();
        assert!(done.is_ok());
    }

    async fn exited(&self) -> Exit {
        self.exit.clone().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    pub fn note(&self, timestamp_ms: i64, level: &str, message: &str) {
        let mut log = self.log.lock();
        let seq = log.len() as u64;
        log.push(json!({
            "seq": seq, "timestamp_ms": timestamp_ms, "level": level, "message": message,
            "fields": { "pid": 7, "logger": "processSvc" },
        }));
    }
}

async fn serve_log(listener: UnixListener, log: Arc<Mutex<Vec<Value>>>, machine: Arc<Machine>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let faults = &machine.faults;
        faults.asked.fetch_add(1, Ordering::SeqCst);
        if spend(&faults.cut) {
            continue;
        }
        if machine.faults.mute.load(Ordering::SeqCst) {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(60)).await;
                drop(stream);
            });
            continue;
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { break };
            head.push(byte);
        }
        if spend(&machine.faults.babble) {
            let _ = stream.write_all(b"hello, this is no HTTP\r\n\r\n").await;
            continue;
        }
        let head = String::from_utf8(head).unwrap();
        let since = head.strip_prefix("GET /soulbox/logs?since=").unwrap();
        let since: usize = since.split('&').next().unwrap().parse().unwrap();
        let body = {
            let log = log.lock();
            json!({ "next": log.len(), "lines": log[since.min(log.len())..] }).to_string()
        };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

/// Takes one of what is left.
fn spend(left: &AtomicUsize) -> bool {
    left.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

async fn serve_echo(listener: UnixListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

/// One server's hold on the machine: it knows what it made or adopted.
#[derive(Debug)]
pub struct TestEngine {
    machine: Arc<Machine>,
    known: Mutex<HashSet<SandboxId>>,
}

impl TestEngine {
    fn guest(&self, id: &SandboxId) -> Option<Arc<Guest>> {
        self.known.lock().contains(id).then(|| self.machine.guest(id)).flatten()
    }
}

async fn pause(ms: &AtomicU32) {
    tokio::time::sleep(Duration::from_millis(ms.load(Ordering::SeqCst).into())).await;
}

#[async_trait]
impl Engine for TestEngine {
    fn name(&self) -> &'static str {
        "processes"
    }

    async fn reserve(&self, spec: SandboxSpec) -> Result<Reserved> {
        let id = SandboxId::random();
        let guest = Machine::spawn(spec).map_err(Error::stage("spawn"))?;
        let record = Record(json!({ "pid": guest.pid }));
        self.machine.guests.lock().insert(id.clone(), Arc::new(guest));
        self.known.lock().insert(id.clone());
        Ok(Reserved { id, record })
    }

    async fn start(&self, id: &SandboxId, agent: AgentConfig) -> Result<()> {
        let faults = &self.machine.faults;
        pause(&faults.create_ms).await;
        let failed = faults.creates.lock().pop_front();
        if let Some(error) = failed {
            self.known.lock().remove(id);
            self.machine.kill(id).await;
            return Err(error);
        }
        let guest = self.guest(id).ok_or_else(|| Error::Gone(id.clone()))?;
        *guest.agent.lock() = Some(agent);
        self.machine.serve(id, &guest).map_err(Error::stage("serve"))
    }

    async fn adopt(&self, id: &SandboxId, record: &Record) -> Result<()> {
        let guest = self.machine.guest(id).ok_or_else(|| Error::Gone(id.clone()))?;
        assert_eq!(record.0["pid"], guest.pid);
        if guest.exit.borrow().is_some() {
            return Err(Error::Gone(id.clone()));
        }
        self.known.lock().insert(id.clone());
        Ok(())
    }

    async fn destroy(&self, id: &SandboxId) -> Result<()> {
        let faults = &self.machine.faults;
        let now = faults.destroying.fetch_add(1, Ordering::SeqCst) + 1;
        faults.most_destroying.fetch_max(now, Ordering::SeqCst);
        pause(&faults.destroy_ms).await;
        faults.destroying.fetch_sub(1, Ordering::SeqCst);
        let fails =
            faults.destroys.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fails.is_ok() {
            return Err(Error::stage("unmount")(std::io::Error::other("injected")));
        }
        if self.known.lock().remove(id) {
            self.machine.kill(id).await;
        }
        Ok(())
    }

    async fn sweep(&self, keep: &HashSet<SandboxId>) -> Result<usize> {
        let all: Vec<_> = self.machine.guests.lock().keys().cloned().collect();
        let mut swept = 0;
        for id in all.iter().filter(|id| !keep.contains(id)) {
            swept += usize::from(self.machine.kill(id).await);
        }
        Ok(swept)
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage> {
        let guest = self.guest(id).ok_or_else(|| Error::Gone(id.clone()))?;
        let stat = std::fs::read_to_string(format!("/proc/{}/statm", guest.pid))
            .map_err(Error::stage("read usage"))?;
        let pages: u64 = stat.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Usage {
            cpu_nanos: 1_000_000,
            memory_bytes: pages * 4096,
            pids: 1,
            oom_kills: guest.oom_kills.load(Ordering::SeqCst),
            ..Usage::default()
        })
    }

    async fn connect(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError> {
        if self.guest(id).is_none() {
            return Err(ConnectError::NotRunning(id.clone()));
        }
        if spend(&self.machine.faults.full) {
            return Err(std::io::Error::from(std::io::ErrorKind::WouldBlock).into());
        }
        let name = match target {
            Target::Agent => "agent",
            Target::Control => "control",
            Target::Port(port) => return Err(ConnectError::PortClosed(port)),
        };
        Ok(Conduit::Unix(UnixStream::connect(self.machine.socket(id, name)).await?))
    }

    async fn wait(&self, id: &SandboxId) -> Exit {
        match self.guest(id) {
            Some(guest) => guest.exited().await,
            None => Exit::Destroyed,
        }
    }

    async fn close(&self) {}
}
