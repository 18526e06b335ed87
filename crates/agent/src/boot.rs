//! How a bare process becomes a sandbox.
//!
//! The engine starts the agent as PID 1 of new namespaces in which the host's mounts are still
//! in sight, and nothing hostile runs yet. Three messages make it a sandbox (see
//! [`soulbox_model::boot`]): first what no template decides, then the root file system, then who it
//! is. With the root the process gives up what it will not need; what it starts later cannot
//! regain it.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    mount::{
        MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        mount_change, move_mount, open_tree, unmount,
    },
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};
use soulbox_model::{
    AGENT_PORT,
    boot::{AgentConfig, MAX_MESSAGE, Message, Ready},
};
use soulbox_sys::{
    caps, init,
    mount::{self, Opt},
    netns, pages, sched, scm,
    seccomp::Filter,
    signals,
};

use crate::{Sandbox, trust, warm};

/// Why the process did not become a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Not started by an engine.
    #[error("descriptor 3 is no boot socket: only a SoulBox engine starts the agent this way")]
    NotStartedByEngine,
    /// The engine went away before it had a use for this process.
    #[error("the engine closed the boot socket")]
    Abandoned,
    #[error("{step}: {source}")]
    Step {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("boot message: {0}")]
    Message(String),
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> BootError {
    move |error| BootError::Step { step, source: error.into() }
}

/// Files of `/proc` that tell of the host or reach into its kernel.
const MASKED: &[&str] = &[
    "buddyinfo",
    "cmdline",
    "config.gz",
    "consoles",
    "diskstats",
    "dma",
    "interrupts",
    "iomem",
    "ioports",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "latency_stats",
    "misc",
    "modules",
    "partitions",
    "sched_debug",
    "schedstat",
    "softirqs",
    "sysrq-trigger",
    "timer_list",
    "zoneinfo",
];

/// Directories of `/proc` that are shown empty. In `pressure` anybody may have the kernel watch the
/// load of the whole machine; the others name its devices.
const EMPTIED: &[&str] = &["acpi", "asound", "bus", "driver", "fs", "irq", "pressure", "scsi"];

/// Directories of `/proc` that can be read alone.
const READ_ONLY: &[&str] = &["sys"];

/// How many terminals a sandbox may have open: all of a machine share some 3000 (`kernel.pty.max`).
const MAX_TERMINALS: &str = "128";

/// A process that no template has touched yet.
#[derive(Debug)]
pub struct Blank {
    socket: UnixStream,
    listeners: Listeners,
}

#[derive(Debug)]
struct Listeners {
    clients: UnixListener,
    control: UnixListener,
    tcp: TcpListener,
}

impl Blank {
    /// Takes the first step, as soon as the engine's message says how.
    ///
    /// # Errors
    /// The step that failed; the engine has been told if it still listens.
    pub fn prepare() -> Result<Self, BootError> {
        let socket = init::inherited_socket().map_err(|_| BootError::NotStartedByEngine)?;
        signals::default_faults().map_err(step("reset the handlers of faults"))?;
        let listeners = prepare(&socket).inspect_err(|error| tell(&socket, error))?;
        // Only make answers quicker.
        let _ = pages::map_program();
        let _ = sched::answer_quickly(false);
        Ok(Self { socket, listeners })
    }

    /// Waits for the rest and becomes the sandbox that it describes.
    ///
    /// # Errors
    /// As [`Blank::prepare`].
    pub fn enter(self) -> Result<Sandbox, BootError> {
        let Self { socket, listeners: Listeners { clients, control, tcp } } = self;
        let entered = enter_root(&socket).and_then(|()| {
            warm::while_idle(&socket);
            start(&socket)
        });
        let config = entered.inspect_err(|error| tell(&socket, error))?;
        Ok(Sandbox {
            config,
            clients,
            control,
            tcp: Some(tcp),
            ready: Box::new(move || answer(&socket, &Ready::Serving)),
        })
    }
}

fn tell(socket: &UnixStream, error: &BootError) {
    if let BootError::Step { step, source } = error {
        answer(socket, &Ready::Failed { step: (*step).into(), error: source.to_string() });
    }
}

/// An engine that no longer listens needs no answer.
fn answer(socket: &UnixStream, ready: &Ready) {
    if let Ok(message) = serde_json::to_vec(ready) {
        let _ = scm::send(socket, &message, &[]);
    }
}

fn receive(socket: &UnixStream) -> Result<(Message, Vec<OwnedFd>), BootError> {
    let (payload, fds) = scm::receive(socket, MAX_MESSAGE).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BootError::Abandoned,
        _ => step("receive")(error),
    })?;
    let message =
        serde_json::from_slice(&payload).map_err(|e| BootError::Message(e.to_string()))?;
    Ok((message, fds))
}

/// Everything that no template decides.
fn prepare(socket: &UnixStream) -> Result<Listeners, BootError> {
    let none = MountAttrFlags::empty();
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    netns::loopback_up().map_err(step("bring up the loopback"))?;
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, AGENT_PORT.get()))
        .map_err(step("listen on the agent's port"))?;
    limit_resources().map_err(step("set resource limits"))?;

    let proc = mount::new(c"proc", &[], quiet).map_err(step("make /proc"))?;
    let terminals = [
        Opt::Value("ptmxmode", "0666"),
        Opt::Value("mode", "620"),
        Opt::Value("gid", "5"),
        Opt::Value("max", MAX_TERMINALS),
    ];
    let pts = mount::new(c"devpts", &terminals, none).map_err(step("make /dev/pts"))?;
    let shared_memory = [Opt::Value("mode", "1777")];
    let shm = mount::new(c"tmpfs", &shared_memory, quiet).map_err(step("make /dev/shm"))?;
    let mqueue = mount::new(c"mqueue", &[], quiet).map_err(step("make /dev/mqueue"))?;

    let (Message::Prepare { hostname }, fds) = receive(socket)? else {
        return Err(BootError::Message("expected `prepare`".into()));
    };
    let [dev, sys, clients, control] = <[OwnedFd; 4]>::try_from(fds)
        .map_err(|_| BootError::Message("`prepare` needs four descriptors".into()))?;
    rustix::system::sethostname(hostname.as_bytes()).map_err(step("set the host name"))?;
    put(&dev, "/dev").map_err(step("attach /dev"))?;
    put(&pts, "/dev/pts").map_err(step("attach /dev/pts"))?;
    put(&shm, "/dev/shm").map_err(step("attach /dev/shm"))?;
    put(&mqueue, "/dev/mqueue").map_err(step("attach /dev/mqueue"))?;
    put(&sys, "/sys").map_err(step("attach /sys"))?;
    put(&proc, "/proc").map_err(step("attach /proc"))?;
    mask_proc().map_err(step("mask /proc"))?;
    new_boot_id().map_err(step("make a boot id"))?;
    Ok(Listeners { clients: clients.into(), control: control.into(), tcp })
}

fn place(path: &str) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

fn put(mount: &OwnedFd, path: &str) -> io::Result<()> {
    mount::attach(mount.as_fd(), place(path)?.as_fd())
}

fn limit_resources() -> io::Result<()> {
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // One byte, not zero: the kernel skips a core handler on the host for exactly this value (core(5)).
    setrlimit(Resource::Core, both(1))?;
    // As many open files as the server may have, short of what makes naive programs slow.
    let inherited = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, both(inherited.min(1 << 20)))?;
    Ok(())
}

/// Each start is a boot of its own. The file lives on in its mount alone.
fn new_boot_id() -> io::Result<()> {
    const FILE: &str = "/dev/shm/boot_id";
    let id = rand::random::<u128>();
    let [a, b, c, d, e] = [
        id >> 96,
        id >> 80 & 0xffff,
        id >> 64 & 0xfff,
        id >> 48 & 0x3fff | 0x8000,
        id & ((1 << 48) - 1),
    ];
    std::fs::write(FILE, format!("{a:08x}-{b:04x}-4{c:03x}-{d:04x}-{e:012x}\n"))?;
    std::fs::set_permissions(FILE, std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
    let mounted = mount::clone_at(CWD, FILE)?;
    mount::set_attributes(mounted.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, None)?;
    put(&mounted, "/proc/sys/kernel/random/boot_id")?;
    std::fs::remove_file(FILE)
}

fn mask_proc() -> io::Result<()> {
    for name in MASKED {
        let Ok(target) = place(&format!("/proc/{name}")) else { continue };
        let null = mount::clone_at(CWD, "/dev/null")?;
        mount::attach(null.as_fd(), target.as_fd())?;
    }
    let mut emptied: Option<String> = None;
    for name in EMPTIED {
        let path = format!("/proc/{name}");
        let Ok(target) = place(&path) else { continue };
        let empty = match &emptied {
            // A copy of a mount costs less than a file system.
            Some(first) => mount::clone_at(CWD, first)?,
            None => {
                let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
                mount::new(c"tmpfs", &[Opt::Value("size", "4k")], read_only)?
            }
        };
        mount::attach(empty.as_fd(), target.as_fd())?;
        emptied.get_or_insert(path);
    }
    for name in READ_ONLY {
        let path = format!("/proc/{name}");
        let Ok(target) = place(&path) else { continue };
        let itself = mount::clone_at(CWD, &path)?;
        mount::set_attributes(itself.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, None)?;
        mount::attach(itself.as_fd(), target.as_fd())?;
    }
    Ok(())
}

/// The root file system; afterwards there is no way back.
fn enter_root(socket: &UnixStream) -> Result<(), BootError> {
    let (Message::Root { mounts }, fds) = receive(socket)? else {
        return Err(BootError::Message("expected `root`".into()));
    };
    let mut fds = fds.into_iter();
    let root = fds.next().filter(|_| fds.len() == mounts.len());
    let root = root.ok_or_else(|| BootError::Message("`root` lacks a descriptor".into()))?;
    let mounts: Vec<_> = mounts.into_iter().zip(fds).collect();
    change_root(&root, &mounts)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Order matters: the filter needs a capability that goes next, and once not dumpable the
    // process no longer owns its files in /proc.
    Filter::sandbox().install().map_err(step("install the system call filter"))?;
    caps::confine(caps::SANDBOX).map_err(step("drop capabilities"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("refuse tracing"))
}

/// Who the sandbox is.
fn start(socket: &UnixStream) -> Result<AgentConfig, BootError> {
    match receive(socket)? {
        (Message::Start { config }, _) => {
            if let Some(bundle) = &config.ca_bundle {
                trust::install(bundle).map_err(step("trust certificates"))?;
            }
            Ok(*config)
        }
        _ => Err(BootError::Message("expected `start`".into())),
    }
}

fn change_root(root: &OwnedFd, mounts: &[(String, OwnedFd)]) -> Result<(), BootError> {
    // Any directory will do: the whole tree around it is left behind in a moment.
    const STAGE: &str = "/tmp";
    put(root, STAGE).map_err(step("attach the root file system"))?;
    let root = place(STAGE).map_err(step("open the root file system"))?;
    for name in ["/dev", "/sys", "/proc"] {
        take_along(name, root.as_fd()).map_err(step("move /dev, /sys and /proc"))?;
    }
    for (target, mount) in mounts {
        mount::target(root.as_fd(), target)
            .and_then(|target| mount::attach(mount.as_fd(), target.as_fd()))
            .map_err(step("attach a mount of the template"))?;
    }
    let enter = || -> rustix::io::Result<()> {
        rustix::process::fchdir(&root)?;
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
    };
    enter().map_err(step("change the root"))
}

/// Moves a prepared mount, with what is mounted on it, into the new root.
fn take_along(path: &str, root: BorrowedFd<'_>) -> io::Result<()> {
    let target = mount::target(root, path)?;
    let tree = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree.as_fd(), "", target.as_fd(), "", flags)?)
}
