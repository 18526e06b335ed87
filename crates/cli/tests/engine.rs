//! The native engine with the real agent, as root, on this machine's kernel.
//!
//! Without root there is nothing to test here, and the tests say so by failing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags};
use soulbox_engine::{ConnectError, Engine, Exit, Reserved, Rootfs, SandboxSpec, Target};
use soulbox_engine_native::{Native, Options};
use soulbox_model::{DiskRate, Port, Resources, SandboxId, boot::AgentConfig, resources::MIB};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const RESOURCES: Resources =
    Resources { cpu_millis: 2000, memory_bytes: 256 * MIB, disk_bytes: 64 * MIB, pids: 256 };

static AGENT: &[u8] = include_bytes!(env!("SOULBOX_AGENT"));

/// A data directory with a root file system that needs no download: the few directories that a sandbox must have.
struct Bench {
    data: TempDir,
    engine: Arc<Native>,
}

impl Bench {
    fn open() -> Self {
        Self::with_pool(0)
    }

    fn with_pool(pool: usize) -> Self {
        let data = tempfile::Builder::new().prefix("soulbox-test").tempdir().unwrap();
        let engine = Self::engine(data.path(), pool);
        let root = engine.store_dir().join("root");
        for name in ["dev", "proc", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        Self { data, engine }
    }

    fn engine(data: &Path, pool: usize) -> Arc<Native> {
        let options = Options {
            data_dir: data.to_owned(),
            agent: AGENT,
            max_sandboxes: 64,
            pool,
            resources: RESOURCES,
            disk_rate: DiskRate::default(),
        };
        Native::open(options).unwrap()
    }

    fn spec(&self) -> SandboxSpec {
        let layers = vec![self.engine.store_dir().join("root")];
        SandboxSpec {
            rootfs: Rootfs { layers, binds: vec![], without: Default::default() },
            resources: RESOURCES,
        }
    }

    /// Reserves and starts a sandbox.
    async fn make(&self, spec: SandboxSpec) -> soulbox_engine::Result<Reserved> {
        let reserved = self.engine.reserve(spec).await?;
        self.start(&reserved.id).await?;
        Ok(reserved)
    }

    async fn start(&self, id: &SandboxId) -> soulbox_engine::Result<()> {
        let agent = AgentConfig {
            sandbox_id: id.clone(),
            template_id: "test".parse().unwrap(),
            access_token: None,
            default_user: "root".into(),
            default_workdir: None,
            env: Default::default(),
            ca_bundle: None,
            started_at_ms: 0,
        };
        self.engine.start(id, agent).await
    }

    /// Everything that a sandbox could leave on this machine, by name.
    fn traces(&self) -> Vec<String> {
        let instance = fs::read_to_string(self.data.path().join("instance")).unwrap();
        let mut traces = Vec::new();
        let mut look = |directory: PathBuf| {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() || !directory.starts_with("/sys") {
                    traces.push(entry.path().display().to_string());
                }
            }
        };
        for controller in ["memory", "cpu", "cpuacct", "pids", ""] {
            look(
                Path::new("/sys/fs/cgroup").join(controller).join("soulbox").join(instance.trim()),
            );
        }
        look(self.data.path().join("sockets"));
        look(self.engine.store_dir().join("layers"));
        traces.sort();
        traces
    }

    async fn assert_no_traces(&self) {
        for _ in 0..100 {
            if self.traces().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.traces(), Vec::<String>::new());
    }

    async fn health(&self, id: &SandboxId) -> String {
        let mut stream = self.engine.connect(id, Target::Agent).await.unwrap();
        let request = b"GET /health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What a failed test left alive.
        for trace in self.traces().iter().filter(|trace| trace.contains("/pids/")) {
            let procs = fs::read_to_string(Path::new(trace).join("cgroup.procs"));
            for pid in procs.unwrap_or_default().lines().filter_map(|line| line.parse().ok()) {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for name in ["run", "store"] {
            let path = self.data.path().join(name);
            let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_serves_and_leaves_nothing() {
    let bench = Bench::open();
    let warm = bench.make(bench.spec()).await.unwrap().id;
    bench.engine.destroy(&warm).await.unwrap();
    bench.assert_no_traces().await;
    let before = open_fds();
    for _ in 0..20 {
        let id = bench.make(bench.spec()).await.unwrap().id;
        assert_eq!(bench.health(&id).await, "HTTP/1.1 204 No Content");
        let usage = bench.engine.usage(&id).await.unwrap();
        assert!(usage.memory_bytes > 0 && usage.pids >= 1, "{usage:?}");
        let port = Port::new(8000).unwrap();
        let closed = bench.engine.connect(&id, Target::Port(port)).await.unwrap_err();
        assert!(matches!(closed, ConnectError::PortClosed(p) if p == port), "{closed}");
        bench.engine.destroy(&id).await.unwrap();
        let gone = bench.engine.connect(&id, Target::Agent).await.unwrap_err();
        assert!(matches!(gone, ConnectError::NotRunning(_)), "{gone}");
    }
    bench.assert_no_traces().await;
    // A second slot may have been touched while the first was being cleaned: its namespace is kept.
    assert!(open_fds() <= before + 3, "{before} descriptors before, {} after", open_fds());
    bench.engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_created_at_once_are_apart() {
    let bench = Arc::new(Bench::open());
    let creations: Vec<_> = (0..30)
        .map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let Reserved { id, record } = bench.make(bench.spec()).await.unwrap();
                (id, record.0["pid"].as_i64().unwrap())
            })
        })
        .collect();
    let mut namespaces = HashSet::new();
    let mut first_ids = HashSet::new();
    let mut ids = Vec::new();
    for creation in creations {
        let (id, pid) = creation.await.unwrap();
        assert_eq!(bench.health(&id).await, "HTTP/1.1 204 No Content");
        for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(theirs, ours);
            assert!(namespaces.insert(theirs), "two sandboxes share a {kind} namespace");
        }
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        let [inside, outside, count] =
            map.split_whitespace().map(|n| n.parse::<u32>().unwrap()).collect::<Vec<_>>()[..]
        else {
            panic!("{map}")
        };
        assert_eq!((inside, count), (0, 65536));
        assert!(outside >= 0x4000_0000 && first_ids.insert(outside));
        ids.push(id);
    }
    for id in &ids {
        bench.engine.destroy(id).await.unwrap();
    }
    bench.assert_no_traces().await;
    bench.engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_creation_leaves_nothing() {
    let bench = Bench::open();
    let mut spec = bench.spec();
    spec.rootfs.layers = vec![bench.data.path().join("no-such-template")];
    let error = bench.make(spec).await.unwrap_err();
    assert!(error.to_string().contains("no-such-template"), "{error}");
    bench.assert_no_traces().await;
    // A template whose mount point is a link out of it.
    let hostile = bench.engine.store_dir().join("hostile");
    fs::create_dir_all(hostile.join("proc")).unwrap();
    fs::create_dir_all(hostile.join("sys")).unwrap();
    std::os::unix::fs::symlink("/etc", hostile.join("dev")).unwrap();
    let mut spec = bench.spec();
    spec.rootfs.layers = vec![hostile];
    let error = bench.make(spec).await.unwrap_err();
    assert!(error.to_string().contains("move /dev"), "{error}");
    bench.assert_no_traces().await;
    bench.engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_engine_adopts_the_living_and_sweeps_the_rest() {
    let mut bench = Bench::open();
    let Reserved { id: kept, record } = bench.make(bench.spec()).await.unwrap();
    let lost = bench.make(bench.spec()).await.unwrap().id;
    let Reserved { id: dead, record: dead_record } = bench.make(bench.spec()).await.unwrap();
    let pid = dead_record.0["pid"].as_i64().unwrap() as i32;
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(bench.engine.wait(&dead).await, Exit::AgentDied { oom: false });

    // As if the server had been killed: nothing is closed, a new one opens the same directory.
    bench.engine = Bench::engine(bench.data.path(), 0);
    bench.engine.adopt(&kept, &record).await.unwrap();
    assert!(bench.engine.adopt(&dead, &dead_record).await.is_err());
    bench.engine.sweep(&HashSet::from([kept.clone()])).await.unwrap();
    assert_eq!(bench.health(&kept).await, "HTTP/1.1 204 No Content");
    let traces = bench.traces().join("\n");
    assert!(traces.contains(kept.as_str()) && !traces.contains(lost.as_str()), "{traces}");
    assert!(!traces.contains(dead.as_str()), "{traces}");
    bench.engine.destroy(&kept).await.unwrap();
    bench.assert_no_traces().await;
    bench.engine.close().await;
}

/// Sandboxes that are reserved all at once.
async fn reserve(bench: &Bench, number: usize) -> Vec<SandboxId> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..number {
        let (engine, spec) = (Arc::clone(&bench.engine), bench.spec());
        tasks.spawn(async move { engine.reserve(spec).await.unwrap().id });
    }
    tasks.join_all().await
}

/// The inode number of the writable layer's own root.
fn number(bench: &Bench, id: &SandboxId) -> u64 {
    fs::metadata(bench.engine.store_dir().join(format!("layers/{id}/upper"))).unwrap().ino()
}

#[tokio::test(flavor = "multi_thread")]
async fn inode_numbers_of_layers_begin_beyond_those_of_templates() {
    let mut bench = Bench::open();
    let root = bench.engine.store_dir().join("root");
    let fill = |from: u32| {
        let files = (from..from + 500).map(|n| root.join(n.to_string()));
        let numbers = files.map(|path| fs::File::create(path).unwrap().metadata().unwrap().ino());
        numbers.max().unwrap()
    };
    let highest = fill(0);
    // More than are made ahead, and all at once.
    for id in reserve(&bench, 40).await {
        assert!(number(&bench, &id) > highest);
        bench.engine.destroy(&id).await.unwrap();
    }
    bench.assert_no_traces().await;

    // As a server leaves it that is killed while it makes some: what is half made is made anew.
    let spare = bench.engine.store_dir().join("spare");
    for place in 0..16 {
        let _ = fs::remove_dir(spare.join(format!("{place}/layer/work")));
    }
    bench.engine = Bench::engine(bench.data.path(), 0);
    let highest = fill(500);
    for id in reserve(&bench, 20).await {
        assert!(number(&bench, &id) > highest);
        bench.engine.destroy(&id).await.unwrap();
    }
    assert!(spare.join("seed/mark").metadata().unwrap().ino() > highest);
    bench.assert_no_traces().await;
    bench.engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_pid_1_is_noticed() {
    let bench = Bench::open();
    let Reserved { id, record } = bench.make(bench.spec()).await.unwrap();
    let pid = rustix::process::Pid::from_raw(record.0["pid"].as_i64().unwrap() as i32).unwrap();
    let exit = tokio::spawn({
        let (engine, id) = (Arc::clone(&bench.engine), id.clone());
        async move { engine.wait(&id).await }
    });
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let exit = tokio::time::timeout(Duration::from_secs(5), exit).await.unwrap().unwrap();
    assert_eq!(exit, Exit::AgentDied { oom: false });
    bench.engine.destroy(&id).await.unwrap();
    bench.assert_no_traces().await;
    bench.engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_used_refilled_and_given_up() {
    let bench = Bench::with_pool(3);
    let groups = |bench: &Bench| {
        bench.traces().iter().filter(|trace| trace.starts_with("/sys/fs/cgroup/memory")).count()
    };
    let filled = async |wanted: usize| {
        for _ in 0..100 {
            if groups(&bench) == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(groups(&bench), wanted);
    };
    bench.engine.sweep(&HashSet::new()).await.unwrap();
    filled(3).await;
    // More at once than there are in the pool, one of which has died meanwhile.
    let group = bench.traces().into_iter().find(|trace| trace.contains("/memory/")).unwrap();
    let procs = fs::read_to_string(Path::new(&group).join("cgroup.procs")).unwrap();
    let pid = rustix::process::Pid::from_raw(procs.trim().parse().unwrap()).unwrap();
    let dead = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    rustix::event::poll(&mut [PollFd::new(&dead, PollFlags::IN)], None).unwrap();
    let mut ids = Vec::new();
    for _ in 0..6 {
        let id = bench.make(bench.spec()).await.unwrap().id;
        assert_eq!(bench.health(&id).await, "HTTP/1.1 204 No Content");
        ids.push(id);
    }
    filled(6 + 3).await;
    for id in &ids {
        bench.engine.destroy(id).await.unwrap();
    }
    filled(3).await;
    bench.engine.close().await;
    bench.assert_no_traces().await;
}
