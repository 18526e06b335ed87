//! The native engine: sandboxes from Linux namespaces, overlayfs, cgroups and seccomp.
//!
//! It gives each sandbox a range of user ids that means nothing outside, a root of shared
//! read-only layers and a private one with a size limit, and limits on CPU, memory and processes.
//! It makes no policy: what a sandbox is for, how long it lives and who may talk to it is
//! `control`'s to know. The inner half of a start is the agent's (`soulbox_agent::boot`).
//!
//! Read in the order of a sandbox's life: [`start`], [`live`], [`end`].

mod aside;
mod at;
mod cgroup;
pub mod doctor;
mod end;
mod fixtures;
pub mod floor;
mod identity;
mod layer;
mod live;
mod pool;
mod rootfs;
mod slots;
mod start;
mod wire;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use soulbox_engine::{
    Conduit, ConnectError, Engine, Error, Exit, Frozen, Record, Reserved, Result, SandboxSpec,
    Target, Usage, Wire,
};
use soulbox_faults::point;
use soulbox_model::{DiskRate, Resources, SandboxId, boot::AgentConfig};
use soulbox_sys::{memfd, netns};
use tokio::{net::UnixStream, sync::Semaphore};

use crate::{
    aside::Aside,
    cgroup::{Cgroups, Disk, Throttle},
    end::{Remains, Undertaker},
    fixtures::Fixtures,
    layer::Layers,
    live::Live,
    pool::Pool,
    slots::Slots,
    start::{Seat, Side},
};

/// How to open the engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// Must be private to this server: the store, the sandboxes' sockets and their devices lie here.
    pub data_dir: PathBuf,
    /// The agent's static binary.
    pub agent: &'static [u8],
    /// Sandboxes at one time.
    pub max_sandboxes: u32,
    /// Sandboxes to make ahead; each takes about 0.5 MiB.
    pub pool: usize,
    /// Of those that are made ahead.
    pub resources: Resources,
    /// Of each sandbox, on each disk that it reaches.
    pub disk_rate: DiskRate,
}

/// Gives up what no server of this engine needs, such as loading modules or setting the clock, and
/// keeps descriptors that whoever started it left open from its children.
///
/// For the process as a whole only before it starts threads.
///
/// # Errors
/// What the kernel reports.
pub fn confine_server() -> io::Result<()> {
    soulbox_sys::spawn::close_all_on_exec()?;
    soulbox_sys::caps::give_up(soulbox_sys::caps::NOT_OF_THE_SERVER)
}

/// What all sandboxes of this server share.
#[derive(Debug)]
pub(crate) struct Host {
    data_dir: PathBuf,
    slots: Slots,
    cgroups: Box<dyn Cgroups>,
    layers: Box<dyn Layers>,
    fixtures: Fixtures,
    undertaker: Undertaker,
    aside: Aside,
    pool: Pool,
    agent: OwnedFd,
    null: OwnedFd,
    /// The server's own network namespace.
    home: OwnedFd,
}

/// The native engine.
#[derive(Debug)]
pub struct Native {
    host: Arc<Host>,
    live: RwLock<HashMap<SandboxId, Arc<Live>>>,
    /// Reserved, not started.
    reserved: Mutex<HashMap<SandboxId, Seat>>,
    /// Creation is kernel work: more at once than processors only makes each slower.
    creating: Semaphore,
}

impl Native {
    /// Opens the engine: mounts its store, finds the cgroups, loads the agent. Sandboxes of an
    /// earlier process are left alone until [`Engine::adopt`] and [`Engine::sweep`].
    ///
    /// Must be called on a Tokio runtime; blocks for some 100 ms at the very first start.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with what to do about it, or the stage that failed.
    pub fn open(options: Options) -> Result<Arc<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Unsupported(
                "the native engine needs root: start the server with sudo or as a system service"
                    .into(),
            ));
        }
        let Options { data_dir, agent, max_sandboxes, pool, resources, disk_rate } = options;
        // Directories made for sandboxes must be readable for their users.
        rustix::process::umask(0o022.into());
        fs::create_dir_all(&data_dir).map_err(Error::stage("make the data directory"))?;
        let data_dir =
            fs::canonicalize(&data_dir).map_err(Error::stage("find the data directory"))?;
        let instance = instance(&data_dir).map_err(Error::stage("name this server"))?;
        let root = Path::new("/sys/fs/cgroup");
        let layers = layer::open(&data_dir).map_err(Error::stage("open the sandbox store"))?;
        let throttle = Throttle::new(disks(&data_dir, &*layers), disk_rate);
        let cgroups = cgroup::detect(root, &format!("{instance:08x}"), throttle)
            .map_err(|e| Error::Unsupported(format!("no usable cgroups: {e}")))?;
        let (undertaker, orders) = Undertaker::new();
        let host = Arc::new(Host {
            slots: Slots::new(instance, max_sandboxes.saturating_add(pool as u32)),
            cgroups,
            layers,
            fixtures: Fixtures::make(&data_dir).map_err(Error::stage("make /dev and /sys"))?,
            undertaker,
            aside: Aside::start().map_err(Error::stage("start the closer"))?,
            pool: Pool::new(pool, resources),
            agent: memfd::sealed(c"soulbox-agent", agent)
                .map_err(Error::stage("load the agent"))?,
            null: fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map_err(Error::stage("open /dev/null"))?
                .into(),
            home: netns::own().map_err(Error::stage("find the network namespace"))?,
            data_dir,
        });
        host.undertaker
            .start(Arc::clone(&host), orders)
            .map_err(Error::stage("start the undertaker"))?;
        tracing::info!(
            cgroups = host.cgroups.version(),
            layers = host.layers.name(),
            "native engine ready"
        );
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            host,
            live: RwLock::default(),
            reserved: Mutex::default(),
            creating: Semaphore::new(processors * 2),
        }))
    }

    /// A directory on the same file system as the sandboxes' layers, for templates.
    pub fn store_dir(&self) -> PathBuf {
        self.host.data_dir.join("store")
    }

    /// Ends the processes of a sandbox that runs; the rest of it is the caller's to bury.
    async fn stop(&self, id: &SandboxId) -> Option<Remains> {
        let live = self.live.write().remove(id)?;
        end::kill(&live.process);
        point("destroy.killed");
        live.ended().await;
        point("destroy.ended");
        Some(Remains {
            process: None,
            slot: Some(live.slot.clone()),
            group: true,
            id: Some(id.clone()),
            netns: Some(Arc::clone(&live.netns)),
        })
    }

    fn find(&self, id: &SandboxId) -> Option<Arc<Live>> {
        self.live.read().get(id).cloned()
    }
}

/// The disks that a sandbox's reads and writes end up on: the store's, the one that holds its image, and
/// the host's programs.
fn disks(data_dir: &Path, layers: &dyn Layers) -> Vec<Disk> {
    let store = layers.device().as_deref().and_then(Disk::named);
    store.into_iter().chain(Disk::below(data_dir)).chain(Disk::below(Path::new("/usr"))).collect()
}

/// A number that tells this data directory from others on the machine.
fn instance(data_dir: &Path) -> io::Result<u32> {
    let path = data_dir.join("instance");
    match fs::read_to_string(&path) {
        Ok(text) => u32::from_str_radix(text.trim(), 16).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let instance: u32 = rand::random();
            fs::write(path, format!("{instance:08x}\n"))?;
            Ok(instance)
        }
        Err(error) => Err(error),
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| {
        Err(Error::Stage { stage: "engine task", source: io::Error::other(panic) })
    })
}

#[async_trait]
impl Engine for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    async fn reserve(&self, spec: SandboxSpec) -> Result<Reserved> {
        // Two looks at file systems; only a broken store takes longer.
        self.host.layers.check().map_err(Error::stage("look at the sandbox store"))?;
        let seat = match self.host.pool.take(&self.host, &spec) {
            Some(seat) if seat.rootfs.is_some() => seat,
            taken => {
                let host = Arc::clone(&self.host);
                let _permit = self.creating.acquire().await;
                blocking(move || {
                    let _creating = host.pool.creating();
                    let mut seat = taken.map_or_else(|| host.blank(spec.resources), Ok)?;
                    host.furnish(&mut seat, &spec.rootfs)
                        .inspect_err(|_| host.undertaker.bury(seat.remains.take()))?;
                    Ok(seat)
                })
                .await?
            }
        };
        let reserved = Reserved { id: seat.id.clone(), record: seat.record.clone() };
        self.reserved.lock().insert(seat.id.clone(), seat);
        point("reserve.kept");
        Ok(reserved)
    }

    async fn start(&self, id: &SandboxId, agent: AgentConfig) -> Result<()> {
        let seat = self.reserved.lock().remove(id);
        let mut seat = seat.ok_or_else(|| Error::Gone(id.clone()))?;
        let ward = self.host.undertaker.ward(seat.remains.take());
        {
            let _creating = self.host.pool.creating();
            seat.start(agent).await?;
        }
        let mut remains = ward.take();
        let Some(process) = remains.process.take() else {
            return Err(Error::Gone(id.clone()));
        };
        let live = Live::new(seat.slot, process, seat.netns, seat.ends)
            .map_err(Error::stage("watch the process"))
            .inspect_err(|_| self.host.undertaker.bury(remains))?;
        self.live.write().insert(id.clone(), Arc::new(live));
        point("start.watched");
        Ok(())
    }

    async fn adopt(&self, id: &SandboxId, record: &Record) -> Result<()> {
        if self.find(id).is_some() {
            return Ok(());
        }
        let live = Live::find(record, &self.host.slots).map_err(|error| {
            tracing::debug!(sandbox = %id, %error, "not adopted");
            Error::Gone(id.clone())
        })?;
        self.live.write().insert(id.clone(), Arc::new(live));
        Ok(())
    }

    async fn destroy(&self, id: &SandboxId) -> Result<()> {
        if let Some(mut seat) = self.reserved.lock().remove(id) {
            self.host.undertaker.bury(seat.remains.take());
        }
        if let Some(remains) = self.stop(id).await {
            self.host.undertaker.bury(remains);
        }
        Ok(())
    }

    async fn freeze(&self, id: &SandboxId, into: &Path) -> Result<Frozen> {
        let remains = self.stop(id).await.ok_or_else(|| Error::Gone(id.clone()))?;
        let first_id = remains.slot.as_ref().map_or(0, |slot| slot.first_id);
        let (host, id, into) = (Arc::clone(&self.host), id.clone(), into.to_owned());
        blocking(move || {
            // Buried whatever happens here.
            let _ward = host.undertaker.ward(remains);
            let bytes = host
                .layers
                .freeze(&id, first_id, &into)
                .map_err(Error::stage("keep the writable layer"))?;
            Ok(Frozen { layer: layer::UPPER.into(), bytes })
        })
        .await
    }

    async fn release(&self, layer: &Path) {
        self.host.layers.forget(layer);
        self.host.pool.release(&self.host, layer);
    }

    async fn sweep(&self, keep: &HashSet<SandboxId>) -> Result<usize> {
        let host = Arc::clone(&self.host);
        let keep = keep.clone();
        blocking(move || {
            let swept = host.sweep(&keep).map_err(Error::stage("remove what was left behind"))?;
            host.pool.start(&host).map_err(Error::stage("start the pool"))?;
            Ok(swept)
        })
        .await
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage> {
        let live = self.find(id).ok_or_else(|| Error::Gone(id.clone()))?;
        let host = Arc::clone(&self.host);
        let id = id.clone();
        blocking(move || {
            let mut usage = host
                .cgroups
                .usage(&live.slot.group())
                .map_err(Error::stage("read the cgroup's counters"))?;
            usage.disk_bytes =
                host.layers.usage(&id).map_err(Error::stage("read the layer's size"))?;
            Ok(usage)
        })
        .await
    }

    async fn connect(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError> {
        let live = self
            .find(id)
            .filter(|live| !live.has_ended())
            .ok_or_else(|| ConnectError::NotRunning(id.clone()))?;
        let side = match target {
            Target::Agent => Side::Client,
            Target::Control => Side::Control,
            Target::Port(port) => {
                return live::connect(&self.host.home, &live.netns, port).await.map(Conduit::Tcp);
            }
        };
        match UnixStream::connect(self.host.socket_path(id, side)).await {
            Ok(stream) => Ok(Conduit::Unix(stream)),
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                    Err(ConnectError::NotRunning(id.clone()))
                }
                _ => Err(error.into()),
            },
        }
    }

    async fn wire(&self, id: &SandboxId) -> Result<Wire> {
        let live = self.find(id).ok_or_else(|| Error::Gone(id.clone()))?;
        if let Some(wire) = live.ends.ready() {
            return Ok(wire);
        }
        let host = Arc::clone(&self.host);
        blocking(move || {
            live.ends
                .take(&host.home, &live.netns)
                .map_err(Error::stage("make the way out of the network namespace"))
        })
        .await
    }

    async fn wait(&self, id: &SandboxId) -> Exit {
        let Some(live) = self.find(id) else { return Exit::Destroyed };
        live.ended().await;
        if self.find(id).is_none() {
            return Exit::Destroyed;
        }
        let usage = self.host.cgroups.usage(&live.slot.group()).unwrap_or_default();
        live::exit(id, usage.oom_kills)
    }

    async fn close(&self) {
        let host = Arc::clone(&self.host);
        let idle = self.live.read().is_empty();
        let closed = tokio::task::spawn_blocking(move || {
            host.pool.close(&host);
            host.undertaker.finish();
            host.layers.close();
            if idle {
                host.leave();
            }
        });
        let _ = closed.await;
    }
}
