//! The first stages of a sandbox's life, told in order.
//!
//! A [`Seat`] begins [blank](Host::blank): all that no template decides (id range, cgroups, writable layer,
//! namespaces, a waiting PID 1). Then it [gets its root](Host::furnish), and last it is told who it
//! is and [serves](Seat::start). All but the last may happen long before anybody asks for a
//! sandbox (see [`crate::pool`]); nobody else's code runs before the end.
//!
//! Each stage records what it made in [`Remains`] before the next one begins, so that giving up at any
//! point leaves nothing.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use soulbox_engine::{Error, Record, Rootfs};
use soulbox_faults::point;
use soulbox_model::{
    Resources, SandboxId,
    boot::{AgentConfig, MAX_MESSAGE, Message, Ready},
};
use soulbox_sys::{init, scm};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    Host,
    end::{self, Remains},
    identity,
    layer::Layer,
    live, rootfs,
    slots::Slot,
    wire::Ends,
};

/// How long the agent may take to answer, generous for a machine under full load.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// A sandbox that is not started: a process in fresh namespaces that waits.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) id: SandboxId,
    /// What it has as root, once it has one.
    pub(crate) rootfs: Option<Rootfs>,
    pub(crate) remains: Remains,
    pub(crate) slot: Slot,
    pub(crate) netns: Arc<OwnedFd>,
    pub(crate) ends: Ends,
    pub(crate) record: Record,
    /// Until it is part of the root.
    layer: Option<Layer>,
    disk_bytes: u64,
    socket: UnixStream,
}

impl Seat {
    /// Whether its process is still there.
    pub(crate) fn is_waiting(&self) -> bool {
        self.remains.process.as_ref().is_some_and(end::is_running)
    }

    /// Stage 3: the process learns who it is, and serves.
    pub(crate) async fn start(&mut self, config: AgentConfig) -> Result<(), Error> {
        let message = encode(&Message::Start { config: Box::new(config) })?;
        let talk = async {
            self.socket.set_nonblocking(true)?;
            let mut socket = tokio::net::UnixStream::from_std(self.socket.try_clone()?)?;
            // Whoever gave up early has said why.
            let _ = socket.write_all(&scm::framed(&message)?).await;
            point("start.told");
            receive(&mut socket).await
        };
        let answer = match tokio::time::timeout(READY_TIMEOUT, talk).await {
            Ok(answer) => answer.map_err(Error::stage("hear from the agent"))?,
            Err(_) => {
                let timeout_ms = READY_TIMEOUT.as_millis() as u64;
                return Err(Error::StartupTimeout { id: self.id.clone(), timeout_ms });
            }
        };
        match serde_json::from_slice(&answer) {
            Ok(Ready::Serving) => {
                point("start.serving");
                Ok(())
            }
            Ok(Ready::Failed { step, error }) => Err(Error::Agent { step, error }),
            Err(error) => Err(Error::Agent { step: "answer".into(), error: error.to_string() }),
        }
    }
}

impl Host {
    /// Stage 1: a slot, its cgroup, its writable layer, its namespaces and PID 1 in them.
    pub(crate) fn blank(&self, resources: Resources) -> Result<Seat, Error> {
        let slot = self.slots.take()?;
        let mut remains = Remains::new(slot.clone());
        self.spawn(slot, resources, &mut remains)
            .inspect_err(|_| self.undertaker.bury(remains.take()))
    }

    fn spawn(
        &self,
        slot: Slot,
        resources: Resources,
        remains: &mut Remains,
    ) -> Result<Seat, Error> {
        let id = SandboxId::random();
        remains.group = true;
        let membership =
            self.cgroups.create(&slot.group()).map_err(Error::stage("make a cgroup"))?;
        self.cgroups
            .limit(&slot.group(), &resources)
            .map_err(Error::stage("set the cgroup's limits"))?;
        point("blank.group");
        let (socket, theirs) = UnixStream::pair().map_err(Error::stage("make a boot socket"))?;
        let started = init::start(&init::Init {
            userns: slot.userns.as_fd(),
            cgroups_v1: &membership.v1(),
            cgroup_v2: membership.v2.as_ref().map(AsFd::as_fd),
            program: self.agent.as_fd(),
            argv0: c"soulbox-agent",
            socket: theirs.as_fd(),
            null: self.null.as_fd(),
            root: None,
        })
        .map_err(|failed| Error::Stage { stage: failed.stage, source: failed.source })?;
        let pid = started.pid;
        remains.process = Some(started.pidfd);
        point("blank.process");
        drop(theirs);
        let netns: OwnedFd = std::fs::File::open(format!("/proc/{}/ns/net", pid.as_raw_pid()))
            .map_err(Error::stage("open the network namespace"))?
            .into();
        let record = live::record(pid, &slot).map_err(Error::stage("identify the process"))?;
        remains.id = Some(id.clone());
        let listener =
            |side| self.listen(&id, side).map_err(Error::stage("make the sandbox's sockets"));
        let [dev, sys] = self
            .fixtures
            .clones(slot.userns.as_fd(), &*self.cgroups, &resources)
            .map_err(Error::stage("copy /dev and /sys"))?;
        let fds = [dev, sys, listener(Side::Client)?, listener(Side::Control)?];
        point("blank.sockets");
        tell(&socket, &Message::Prepare { hostname: id.to_string() }, &fds)?;
        // Beside the process, which has enough to do until its root is there.
        let layer = self.layer(&id, &slot, resources.disk_bytes)?;
        Ok(Seat {
            id,
            rootfs: None,
            remains: remains.take(),
            slot,
            ends: Ends::default(),
            netns: Arc::new(netns),
            record,
            layer: Some(layer),
            disk_bytes: resources.disk_bytes,
            socket,
        })
    }

    fn layer(&self, id: &SandboxId, slot: &Slot, bytes: u64) -> Result<Layer, Error> {
        let layer =
            self.layers.create(id, bytes).map_err(Error::stage("make the writable layer"))?;
        point("blank.layer");
        rootfs::prepare(&layer, slot, |directory| identity::write(directory, id.as_str()))
            .map_err(Error::stage("prepare the writable layer"))?;
        Ok(layer)
    }

    /// `layer`, or another one in its place whose inode numbers are none of `rootfs`.
    fn fitting(&self, seat: &Seat, layer: Layer, rootfs: &Rootfs) -> Result<Layer, Error> {
        let failed = || Error::stage("look at inode numbers");
        if self.layers.is_beyond(&layer, &rootfs.layers).map_err(failed())? {
            return Ok(layer);
        }
        drop(layer);
        self.layers.delete(&seat.id).map_err(Error::stage("replace the writable layer"))?;
        self.layer(&seat.id, &seat.slot, seat.disk_bytes)
    }

    /// Stage 2: the process is told to make `rootfs` and the seat's layer its root; it does so while
    /// nobody waits for it, and what goes wrong is heard at the start.
    pub(crate) fn furnish(&self, seat: &mut Seat, rootfs: &Rootfs) -> Result<(), Error> {
        let failed = || Error::stage("assemble the root file system");
        let layer = seat.layer.take().ok_or_else(|| io::Error::other("it has a root already"));
        let layer = self.fitting(seat, layer.map_err(failed())?, rootfs)?;
        let assembled = rootfs::assemble(rootfs, &layer, &seat.slot);
        self.aside.close([layer.mount]);
        let assembled = assembled.map_err(failed())?;
        self.aside.close(assembled.spent);
        let (mounts, mut fds) = (assembled.mounts, vec![assembled.root]);
        let mut targets = Vec::new();
        for (target, mount) in mounts {
            targets.push(target);
            fds.push(mount);
        }
        point("furnish.assembled");
        tell(&seat.socket, &Message::Root { mounts: targets }, &fds)?;
        point("furnish.told");
        seat.rootfs = Some(rootfs.clone());
        // Beside the process, which moves into its root.
        self.open_way_out(seat);
        Ok(())
    }

    /// Part of stage 2, unless it was done before.
    pub(crate) fn open_way_out(&self, seat: &Seat) {
        seat.ends.make(&self.home, &seat.netns);
    }

    fn listen(&self, id: &SandboxId, side: Side) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(self.socket_path(id, side))?)?;
        listen(&socket, 1024)?;
        Ok(socket)
    }

    /// A path that fits into a socket address however deep the data directory is.
    pub(crate) fn socket_path(&self, id: &SandboxId, side: Side) -> String {
        format!("/proc/self/fd/{}/{}", self.fixtures.sockets.as_raw_fd(), side.file(id))
    }
}

/// The two ways to the agent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Client,
    Control,
}

impl Side {
    pub(crate) fn file(self, id: &SandboxId) -> String {
        match self {
            Self::Client => format!("{id}.client"),
            Self::Control => format!("{id}.control"),
        }
    }
}

fn encode(message: &Message) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(message)
        .map_err(|e| Error::Stage { stage: "encode the boot message", source: io::Error::other(e) })
}

fn tell(socket: &UnixStream, message: &Message, fds: &[OwnedFd]) -> Result<(), Error> {
    let payload = encode(message)?;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    match scm::send(socket, &payload, &fds) {
        // The agent gave up early; its last words say why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        sent => sent.map_err(Error::stage("talk to the agent")),
    }
}

/// What the agent sent with [`scm::send`].
async fn receive(socket: &mut tokio::net::UnixStream) -> io::Result<Vec<u8>> {
    let length = socket.read_u32_le().await? as usize;
    if length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).await?;
    Ok(payload)
}
