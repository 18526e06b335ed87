//! A running sandbox as the server holds it, and how it is found again after a restart.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use soulbox_engine::{ConnectError, Exit, Record};
use soulbox_model::{Port, SandboxId};
use soulbox_sys::{init, netns};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpSocket, TcpStream},
    sync::watch,
};

use crate::{
    slots::{Slot, Slots},
    wire::Ends,
};

#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) slot: Slot,
    pub(crate) process: Arc<OwnedFd>,
    pub(crate) netns: Arc<OwnedFd>,
    pub(crate) ends: Ends,
    ended: watch::Receiver<bool>,
}

/// The process identity that survives the server: a pid alone may be reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identified {
    pid: i32,
    /// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot.
    start_time: u64,
    boot_id: String,
    slot: u32,
}

impl Live {
    pub(crate) fn new(
        slot: Slot,
        process: OwnedFd,
        netns: Arc<OwnedFd>,
        ends: Ends,
    ) -> io::Result<Self> {
        let process = Arc::new(process);
        let (end, ended) = watch::channel(false);
        #[expect(
            deprecated,
            reason = "sound here: the Arc keeps the descriptor open and is never swapped"
        )]
        let watched = AsyncFd::with_interest(Arc::clone(&process), Interest::READABLE)?;
        // Ends with the sandbox, or with the runtime.
        tokio::spawn(async move {
            let _ = watched.readable().await;
            init::try_reap(watched.get_ref().as_fd());
            let _ = end.send(true);
        });
        Ok(Self { slot, process, netns, ends, ended })
    }

    /// Finds the process of an earlier record, if it still is the same one.
    pub(crate) fn find(record: &Record, slots: &Slots) -> io::Result<Self> {
        let identified: Identified = serde_json::from_value(record.0.clone())?;
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let pid = Pid::from_raw(identified.pid).ok_or_else(gone)?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        // Asked after the descriptor holds the process: from here on the pid cannot change hands.
        if boot_id()? != identified.boot_id || start_time(pid)? != identified.start_time {
            return Err(gone());
        }
        let namespace = |name| fs::File::open(format!("/proc/{}/ns/{name}", identified.pid));
        let (userns, netns) = (namespace("user")?, namespace("net")?);
        let slot = slots.adopt(identified.slot, userns.into())?;
        Self::new(slot.clone(), process, Arc::new(netns.into()), Ends::default())
            .inspect_err(|_| slots.release(slot))
    }

    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }
}

pub(crate) fn record(pid: Pid, slot: &Slot) -> io::Result<Record> {
    let identified = Identified {
        pid: pid.as_raw_pid(),
        start_time: start_time(pid)?,
        boot_id: boot_id()?,
        slot: slot.number,
    };
    Ok(Record(serde_json::to_value(identified)?))
}

/// Of this boot of the machine.
fn boot_id() -> io::Result<String> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return Ok(id.clone());
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    Ok(BOOT_ID.get_or_init(|| id).clone())
}

fn start_time(pid: Pid) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()))?;
    // The name in parentheses may hold anything; field 22 is the 20th after it.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// How long a connect to a port of the sandbox may take; its loopback answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to a port on the sandbox's loopback, over IPv4 and then IPv6.
pub(crate) async fn connect(
    home: &OwnedFd,
    netns: &OwnedFd,
    port: Port,
) -> Result<TcpStream, ConnectError> {
    for address in ["127.0.0.1", "::1"] {
        let Ok(ip) = address.parse::<std::net::IpAddr>() else { continue };
        let socket = netns::tcp_socket(home.as_fd(), netns.as_fd(), ip.is_ipv6())?;
        let socket = TcpSocket::from_std_stream(socket.into());
        socket.set_nodelay(true)?;
        let connecting = socket.connect((ip, port.get()).into());
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
    Err(ConnectError::PortClosed(port))
}

/// How a sandbox that ended by itself is reported.
pub(crate) fn exit(id: &SandboxId, oom_kills: u64) -> Exit {
    tracing::info!(sandbox = %id, oom_kills, "sandbox ended by itself");
    Exit::AgentDied { oom: oom_kills > 0 }
}
