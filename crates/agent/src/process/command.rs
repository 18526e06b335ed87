//! From a request to a running child: user, directory, environment, descriptors.

use std::{
    collections::BTreeMap,
    ffi::{CString, NulError},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::AtomicBool},
};

use connectrpc::ConnectError;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pipe::{PipeFlags, pipe_with},
};
use soulbox_sys::{
    pty,
    spawn::{Credentials, Spawn, Unexecutable, spawn},
};
use soulbox_wire::process::{PTY, ProcessConfig, StartRequest};
use tokio::{
    io::unix::AsyncFd,
    sync::{Mutex, Notify, watch},
};

use super::{
    Process, input::Input, output::Fanout, pump::Outputs, search, table::Started,
    terminal::Terminal,
};
use crate::{
    State,
    auth::Acting,
    paths,
    users::{NoUser, User, Users},
};

/// When the agent itself was started without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// When memory runs out, the kernel takes a user's process and not the agent.
const OOM_SCORE: i16 = 500;
/// Tags are kept for a while after their process ended.
const MAX_TAG: usize = 4096;
/// For a client that asks for a terminal without saying how large.
const DEFAULT_SIZE: pty::Size = pty::Size { cols: 80, rows: 24 };

/// Starts what the request asks for.
///
/// # Errors
/// `unauthenticated` for an unknown user, `invalid_argument` for all else that cannot be started.
pub(super) fn start(
    state: &State,
    acting: &Acting,
    request: StartRequest,
) -> Result<(Started, Outputs), ConnectError> {
    let StartRequest { process, pty, tag, stdin, .. } = request;
    let config: ProcessConfig = Option::from(process)
        .ok_or_else(|| ConnectError::invalid_argument("process config not given"))?;
    let cannot_start = |error: &dyn std::fmt::Display| {
        let shown: String = config.cmd.chars().take(200).collect();
        ConnectError::invalid_argument(format!("error starting process '{shown}': {error}"))
    };

    if tag.as_ref().is_some_and(|tag| tag.len() > MAX_TAG) {
        return Err(ConnectError::invalid_argument(format!("a tag has at most {MAX_TAG} bytes")));
    }
    let users = Users::load();
    let user = find_user(state, acting, &users)?;
    let groups = users.groups_of(user);
    let cwd = directory(state, user, config.cwd.as_deref().unwrap_or_default())?;
    let env = environment(state, user, &config);
    let terminal = Option::<PTY>::from(pty).map(size).transpose()?;
    let path = env.get("PATH").map_or("", String::as_str);
    let strings = Strings::new(&config, path, &env, &cwd).map_err(|error| cannot_start(&error))?;
    let descriptors = match terminal {
        Some(size) => Descriptors::terminal(size, user.uid),
        None => Descriptors::pipes(stdin.unwrap_or(true)),
    };
    let Descriptors { stdio: [stdin, stdout, stderr], input, outputs } =
        descriptors.map_err(|error| cannot_start(&error))?;

    let command = Spawn {
        programs: &strings.programs,
        argv: &strings.argv,
        env: &strings.env,
        cwd: &strings.cwd,
        stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        terminal: terminal.is_some(),
        user: Some(Credentials { uid: user.uid, gid: user.gid, groups: &groups }),
        oom_score_adj: Some(OOM_SCORE),
        unexecutable: Unexecutable { missing: &strings.missing, refused: &strings.refused },
    };
    let started = state.processes.start(
        || spawn(&command),
        |child| Process {
            pid: child.pid.as_raw_pid(),
            config: config.clone(),
            tag,
            pidfd: child.pidfd,
            input,
            output: Arc::new(Fanout::default()),
            exited: AtomicBool::new(false),
            ended_by_signal: Notify::new(),
            forgotten: watch::Sender::new(false),
        },
    );
    let started = started.map_err(|error| cannot_start(&error))?;
    Ok((started, outputs))
}

fn find_user<'a>(
    state: &State,
    acting: &Acting,
    users: &'a Users,
) -> Result<&'a User, ConnectError> {
    let (found, what, name) = match &acting.name {
        Some(name) => (users.find(name), "username", name.to_string()),
        None => {
            let name = state.default_user();
            (users.find(&name), "default user", name)
        }
    };
    found.map_err(|why| match why {
        NoUser::Unknown => ConnectError::unauthenticated(format!("invalid {what}: '{name}'")),
        NoUser::Unreadable(why) => ConnectError::internal(why.to_string()),
    })
}

fn directory(state: &State, user: &User, wanted: &str) -> Result<String, ConnectError> {
    let workdir = state.default_workdir();
    let cwd = paths::resolve(wanted, &user.home, workdir.as_deref())
        .map_err(|error| ConnectError::invalid_argument(error.to_string()))?;
    match rustix::fs::stat(cwd.as_str()) {
        Err(rustix::io::Errno::NOENT) => {
            Err(ConnectError::invalid_argument(format!("cwd '{cwd}' does not exist")))
        }
        // Whatever else is wrong with it, the child finds out with the user's rights.
        _ => Ok(cwd),
    }
}

/// Built from nothing; what comes later wins.
fn environment(state: &State, user: &User, config: &ProcessConfig) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").ok().filter(|path| !path.is_empty());
    let own = [
        ("PATH", path.unwrap_or_else(|| DEFAULT_PATH.to_owned())),
        ("HOME", user.home.clone()),
        ("USER", user.name.clone()),
        ("LOGNAME", user.name.clone()),
        ("SHELL", user.shell.clone()),
    ];
    let mut env: BTreeMap<_, _> = own.map(|(name, value)| (name.to_owned(), value)).into();
    env.extend(state.global_env());
    // Templates bring directories that a user fills, as those of packages: nobody becomes root by a name in them.
    if user.uid == 0
        && let Some(path) = env.get_mut("PATH")
    {
        let kept = search::of_root(path);
        *path = if kept.is_empty() { DEFAULT_PATH.to_owned() } else { kept };
    }
    env.extend(config.envs.iter().map(|(name, value)| (name.clone(), value.clone())));
    env
}

fn size(pty: PTY) -> Result<pty::Size, ConnectError> {
    let Some(size) = Option::<soulbox_wire::process::pty::Size>::from(pty.size) else {
        return Ok(DEFAULT_SIZE);
    };
    let fits = |n: u32| {
        u16::try_from(n).map_err(|_| {
            ConnectError::invalid_argument(format!(
                "a tty has at most {} rows or columns",
                u16::MAX
            ))
        })
    };
    Ok(pty::Size { cols: fits(size.cols)?, rows: fits(size.rows)? })
}

/// The size that an `Update` asks for, if any.
pub(super) fn new_size(pty: impl Into<Option<PTY>>) -> Result<Option<pty::Size>, ConnectError> {
    pty.into().map(size).transpose()
}

/// Everything that the child reads between clone and exec.
struct Strings {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    /// What a shell says of a program that does not exist, or may not be executed.
    missing: Vec<u8>,
    refused: Vec<u8>,
}

impl Strings {
    fn new(
        config: &ProcessConfig,
        path: &str,
        env: &BTreeMap<String, String>,
        cwd: &str,
    ) -> Result<Self, NulError> {
        let cmd = config.cmd.as_str();
        let programs = if cmd.contains('/') || cmd.is_empty() {
            vec![CString::new(cmd)?]
        } else {
            // An empty entry is the current directory.
            path.split(':')
                .map(|dir| match dir {
                    "" => CString::new(format!("./{cmd}")),
                    dir => CString::new(format!("{dir}/{cmd}")),
                })
                .collect::<Result<_, _>>()?
        };
        let argv = std::iter::once(cmd).chain(config.args.iter().map(String::as_str));
        Ok(Self {
            programs,
            argv: argv.map(CString::new).collect::<Result<_, _>>()?,
            env: env
                .iter()
                .map(|(name, value)| CString::new(format!("{name}={value}")))
                .collect::<Result<_, _>>()?,
            cwd: CString::new(cwd)?,
            missing: format!("/bin/sh: 1: exec: {cmd}: not found\n").into_bytes(),
            refused: format!("/bin/sh: 1: exec: {cmd}: Permission denied\n").into_bytes(),
        })
    }
}

/// Both sides of what connects a process with the agent.
struct Descriptors {
    /// The child's, to be closed here after its start.
    stdio: [OwnedFd; 3],
    input: Input,
    outputs: Outputs,
}

impl Descriptors {
    fn pipes(with_stdin: bool) -> io::Result<Self> {
        let (stdin, input) = if with_stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            (read, Some(asynchronous(write)?))
        } else {
            // Whoever is root inside may have put a FIFO there, which must not make us wait.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            (rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?, None)
        };
        let (stdout_read, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr_read, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self {
            stdio: [stdin, stdout, stderr],
            input: Input::Pipe(Mutex::new(input)),
            outputs: Outputs::Pipes {
                stdout: asynchronous(stdout_read)?,
                stderr: asynchronous(stderr_read)?,
            },
        })
    }

    fn terminal(size: pty::Size, owner: u32) -> io::Result<Self> {
        let pty::Pty { master, slave } = pty::open(size, owner)?;
        let master = Arc::new(registered(master)?);
        Ok(Self {
            stdio: [slave.try_clone()?, slave.try_clone()?, slave],
            input: Input::Terminal(Terminal::new(Arc::clone(&master), size)),
            outputs: Outputs::Terminal(master),
        })
    }
}

/// The agent's end of a pipe; the child's stays blocking.
fn asynchronous(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    registered(fd)
}

/// Lets the runtime tell when a non-blocking descriptor is ready.
#[expect(deprecated, reason = "the unsafe replacement is for types that own no descriptor")]
pub(super) fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
