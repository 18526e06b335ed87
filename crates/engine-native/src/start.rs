//! The first stages of a sandbox's life, told in order: a blank one is spawned, then bound to its root.
//!
//! A [`Blank`] is all that no template decides (id range, cgroups, namespaces, a waiting PID 1). Each
//! stage records what it made in [`Remains`] before the next one begins, so that giving up at any
//! point leaves nothing.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
    process::Pid,
};
use soulbox_engine::{Error, SandboxSpec};
use soulbox_model::{
    SandboxId,
    boot::{BindFd, MAX_MESSAGE, Message, Ready},
};
use soulbox_sys::{init, scm};

use crate::{
    Host,
    end::{self, Remains},
    identity::Identity,
    layer::Layer,
    rootfs,
    slots::Slot,
};

/// How long the agent may take to answer, generous for a machine under full load.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// A process in fresh namespaces that waits to become a sandbox.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) remains: Remains,
    pub(crate) slot: Slot,
    pub(crate) pid: Pid,
    pub(crate) netns: OwnedFd,
    socket: UnixStream,
}

impl Blank {
    /// Whether its process is still there.
    pub(crate) fn is_waiting(&self) -> bool {
        self.remains.process.as_ref().is_some_and(end::is_running)
    }
}

impl Host {
    /// Stage 1: a slot, its cgroup, its namespaces and PID 1 in them.
    pub(crate) fn blank(&self) -> Result<Blank, Error> {
        let slot = self.slots.take()?;
        let mut remains = Remains::new(slot.clone());
        self.spawn(&slot, &mut remains)
            .map(|(pid, netns, socket)| Blank { remains: remains.take(), slot, pid, netns, socket })
            .inspect_err(|_| self.undertaker.bury(remains.take()))
    }

    fn spawn(
        &self,
        slot: &Slot,
        remains: &mut Remains,
    ) -> Result<(Pid, OwnedFd, UnixStream), Error> {
        remains.group = true;
        let membership =
            self.cgroups.create(&slot.group()).map_err(Error::stage("make a cgroup"))?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::stage("make a boot socket"))?;
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
        drop(theirs);
        let netns = std::fs::File::open(format!("/proc/{}/ns/net", pid.as_raw_pid()))
            .map_err(Error::stage("open the network namespace"))?;
        let [dev, sys] = self
            .fixtures
            .clones(slot.userns.as_fd())
            .map_err(Error::stage("copy /dev and /sys"))?;
        tell(&ours, &Message::Prepare, &[dev, sys])?;
        Ok((pid, netns.into(), ours))
    }

    /// Stage 2: the blank gets its limits, its root and its name, and serves.
    pub(crate) fn bind(&self, blank: &mut Blank, spec: &SandboxSpec) -> Result<(), Error> {
        let slot = &blank.slot;
        self.cgroups
            .limit(&slot.group(), &spec.resources)
            .map_err(Error::stage("set the cgroup's limits"))?;
        blank.remains.id = Some(spec.id.clone());
        let layer: Layer = self
            .layers
            .create(&spec.id, spec.resources.disk_bytes)
            .map_err(Error::stage("make the writable layer"))?;
        let identity = Identity { hostname: spec.agent.hostname.clone() };
        let assembled = rootfs::assemble(&spec.rootfs, &layer, &identity, slot)
            .map_err(Error::stage("assemble the root file system"))?;
        let listener =
            |side| self.listen(&spec.id, side).map_err(Error::stage("make the sandbox's sockets"));
        let mut kinds = vec![BindFd::Root, BindFd::ClientListener, BindFd::ControlListener];
        let mut fds = vec![assembled.root, listener(Side::Client)?, listener(Side::Control)?];
        for (target, mount) in assembled.mounts {
            kinds.push(BindFd::Mount { target });
            fds.push(mount);
        }
        let message = Message::Bind { config: Box::new(spec.agent.clone()), fds: kinds };
        tell(&blank.socket, &message, &fds)?;
        drop(fds);
        await_ready(&blank.socket, &spec.id)
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

fn tell(socket: &UnixStream, message: &Message, fds: &[OwnedFd]) -> Result<(), Error> {
    let payload = serde_json::to_vec(message).map_err(|e| Error::Stage {
        stage: "encode the boot message",
        source: io::Error::other(e),
    })?;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    match scm::send(socket, &payload, &fds) {
        // The agent gave up early; its last words say why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        sent => sent.map_err(Error::stage("talk to the agent")),
    }
}

fn await_ready(socket: &UnixStream, id: &SandboxId) -> Result<(), Error> {
    let received = socket
        .set_read_timeout(Some(READY_TIMEOUT))
        .and_then(|()| scm::receive(socket, MAX_MESSAGE));
    let (payload, _) = received.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Error::StartupTimeout { id: id.clone(), timeout_ms: READY_TIMEOUT.as_millis() as u64 }
        }
        _ => Error::Stage { stage: "hear from the agent", source: error },
    })?;
    match serde_json::from_slice(&payload) {
        Ok(Ready::Serving) => Ok(()),
        Ok(Ready::Failed { step, error }) => Err(Error::Agent { step, error }),
        Err(error) => Err(Error::Agent { step: "answer".into(), error: error.to_string() }),
    }
}
