//! Starting the first process of a set of fresh namespaces.
//!
//! Two stages, both in children that share the caller's memory and stop its thread until they are
//! done (`CLONE_VM|CLONE_VFORK`): independent of the caller's size, and no page table is copied.
//!
//! 1. **outer** joins the cgroups, enters the prepared user namespace (only a single-threaded
//!    process may) and unshares the rest, so that they all belong to that user namespace;
//! 2. **inner** is cloned into the new pid namespace as a child of the *caller* (`CLONE_PARENT`),
//!    so it is PID 1 there, and executes the program.

use std::{
    ffi::CStr,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::check;

/// What to start and where.
#[derive(Debug)]
pub struct Init<'a> {
    pub userns: BorrowedFd<'a>,
    /// Open for writing: `tasks` of each cgroup (version 1) to join. A process that moves itself
    /// this way does not wait for an RCU grace period, as a move through `cgroup.procs` would.
    pub cgroups_v1: &'a [BorrowedFd<'a>],
    /// `cgroup.procs` of the version 2 cgroup to join, if any, open for writing.
    pub cgroup_v2: Option<BorrowedFd<'a>>,
    /// The program; executed by descriptor.
    pub program: BorrowedFd<'a>,
    pub argv0: &'a CStr,
    /// Becomes descriptor 3 of the program; descriptors 0 to 2 are `null`, no others are open.
    pub socket: BorrowedFd<'a>,
    pub null: BorrowedFd<'a>,
    /// Attached over `/tmp` and made the root before the program starts, if given.
    pub root: Option<BorrowedFd<'a>>,
}

/// A process that was started, a child of the caller.
#[derive(Debug)]
pub struct Started {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// Where a start failed.
#[derive(Debug, thiserror::Error)]
#[error("{stage}: {source}")]
pub struct Failed {
    pub stage: &'static str,
    #[source]
    pub source: io::Error,
}

const STACK: usize = 64 * 1024;

/// Memory for a child to run on.
pub(crate) struct Stack(Vec<u128>);

impl Stack {
    pub(crate) fn new() -> Self {
        Self(vec![0; STACK / size_of::<u128>()])
    }

    pub(crate) fn top(&mut self) -> *mut libc::c_void {
        // One past the end: the stack grows downwards, and the element type keeps it 16-byte aligned.
        self.0.as_mut_ptr_range().end.cast()
    }
}

/// Blocks every signal of the thread while it lives: a handler must not run in a child that shares memory.
pub(crate) struct BlockSignals(libc::sigset_t);

impl BlockSignals {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: `sigset_t` is plain data; both sets live through the calls.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            check(libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut old).into())?;
            Ok(Self(old))
        }
    }
}

impl Drop for BlockSignals {
    fn drop(&mut self) {
        // SAFETY: restores the mask that `new` saved.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

/// What both children see of the caller's memory.
struct Shared {
    userns: RawFd,
    cgroups_v1: *const BorrowedFd<'static>,
    cgroups_v1_len: usize,
    cgroup_v2: RawFd,
    program: RawFd,
    argv: [*const libc::c_char; 2],
    socket: RawFd,
    null: RawFd,
    root: RawFd,
    inner_stack: *mut libc::c_void,
    inner_pid: libc::pid_t,
    stage: &'static str,
    errno: i32,
}

/// Starts the process and returns when it executes the program.
///
/// # Errors
/// The stage that failed and what the kernel reported; nothing is left behind then.
pub fn start(init: &Init<'_>) -> Result<Started, Failed> {
    let (mut outer_stack, mut inner_stack) = (Stack::new(), Stack::new());
    let mut shared = Shared {
        userns: init.userns.as_raw_fd(),
        cgroups_v1: init.cgroups_v1.as_ptr().cast(),
        cgroups_v1_len: init.cgroups_v1.len(),
        cgroup_v2: init.cgroup_v2.map_or(-1, |fd| fd.as_raw_fd()),
        program: init.program.as_raw_fd(),
        argv: [init.argv0.as_ptr(), ptr::null()],
        socket: init.socket.as_raw_fd(),
        null: init.null.as_raw_fd(),
        root: init.root.map_or(-1, |fd| fd.as_raw_fd()),
        inner_stack: inner_stack.top(),
        inner_pid: 0,
        stage: "clone",
        errno: 0,
    };
    let failed = |stage, source| Failed { stage, source };
    let blocked = BlockSignals::new().map_err(|e| failed("block signals", e))?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    // SAFETY: the outer child runs on a stack of its own while this thread is stopped (CLONE_VFORK),
    // so `shared` and what it points to stay valid and unshared; it makes plain syscalls only and
    // leaves by `_exit`.
    let outer =
        unsafe { libc::clone(outer, outer_stack.top(), flags, ptr::from_mut(&mut shared).cast()) };
    let outer = check(outer.into()).map_err(|e| failed("clone", e))? as libc::pid_t;
    drop(blocked);
    // The children wrote through the pointer behind the compiler's back.
    // SAFETY: `shared` is a live local; volatile reads of plain fields.
    let (pid, stage, errno) = unsafe {
        (
            ptr::read_volatile(&raw const shared.inner_pid),
            ptr::read_volatile(&raw const shared.stage),
            ptr::read_volatile(&raw const shared.errno),
        )
    };
    reap(outer);
    if errno != 0 {
        if pid > 0 {
            reap(pid);
        }
        return Err(failed(stage, io::Error::from_raw_os_error(errno)));
    }
    let Some(pid) = Pid::from_raw(pid) else {
        return Err(failed(stage, io::Error::other("no process was made")));
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Started { pid, pidfd }),
        Err(errno) => {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            reap(pid.as_raw_pid());
            Err(failed("pidfd_open", errno.into()))
        }
    }
}

impl Started {
    /// Reaps the process if it has ended.
    pub fn try_reap(&self) -> bool {
        try_reap(self.pidfd.as_fd())
    }
}

/// Reaps a child by its pidfd if it has ended; `false` also for what is no child of ours.
pub fn try_reap(pidfd: BorrowedFd<'_>) -> bool {
    // SAFETY: `siginfo_t` is plain data for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::__WALL;
    // SAFETY: the descriptor is open and `info` lives through the call.
    let ret =
        unsafe { libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, &mut info, flags) };
    // SAFETY: after a successful waitid the child's fields are the valid ones.
    ret == 0 && unsafe { info.si_pid() } != 0
}

/// In the started program: takes the socket that [`start`] passed as descriptor 3.
///
/// # Errors
/// `InvalidInput` if descriptor 3 is no socket, that is, if the program was not started by
/// [`start`], or if the socket was taken before.
pub fn inherited_socket() -> io::Result<UnixStream> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // SAFETY: only looked at; a closed descriptor answers EBADF.
    let is_socket = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(3) }).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket
    });
    if !is_socket || TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: descriptor 3 is open, and `TAKEN` sees to it that only one owner is made.
    let socket = unsafe { OwnedFd::from_raw_fd(3) };
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket.into())
}

fn reap(pid: libc::pid_t) {
    // SAFETY: waits for a child of ours; no memory is passed.
    while unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) } < 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
}

impl Shared {
    /// Notes a failed step for the caller and ends the child.
    fn fail(&mut self, stage: &'static str) -> ! {
        self.stage = stage;
        // SAFETY: `errno` is the stopped parent's thread-local, which this child shares.
        self.errno = unsafe { *libc::__errno_location() }.max(1);
        exit(1)
    }

    fn must(&mut self, stage: &'static str, ret: libc::c_long) {
        if ret < 0 {
            self.fail(stage);
        }
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends this child without running anything of the parent's.
    unsafe { libc::_exit(code) }
}

extern "C" fn outer(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes a `Shared` that outlives this child, and its thread is stopped.
    let shared = unsafe { &mut *argument.cast::<Shared>() };
    // SAFETY: plain syscalls on descriptors that `start` borrowed and on constants.
    unsafe {
        for index in 0..shared.cgroups_v1_len {
            let fd = (*shared.cgroups_v1.add(index)).as_raw_fd();
            shared.must("join cgroup", libc::write(fd, c"0".as_ptr().cast(), 1) as _);
        }
        if shared.cgroup_v2 >= 0 {
            let fd = shared.cgroup_v2;
            shared.must("join cgroup", libc::write(fd, c"0".as_ptr().cast(), 1) as _);
        }
        shared.must("drop groups", libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()));
        shared.must("enter user namespace", libc::setns(shared.userns, libc::CLONE_NEWUSER).into());
        shared.must("become root inside", libc::syscall(libc::SYS_setresgid, 0, 0, 0));
        shared.must("become root inside", libc::syscall(libc::SYS_setresuid, 0, 0, 0));
        let namespaces = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
        shared.must("unshare namespaces", libc::unshare(namespaces).into());
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT;
        let pid = libc::clone(inner, shared.inner_stack, flags, argument);
        shared.must("clone into the pid namespace", pid.into());
        shared.inner_pid = pid;
    }
    exit(0)
}

extern "C" fn inner(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: as in `outer`, which is stopped too until this child executes the program.
    let shared = unsafe { &mut *argument.cast::<Shared>() };
    // SAFETY: plain syscalls on descriptors, constants and C strings that `start` keeps alive.
    unsafe {
        shared.must("setsid", libc::setsid().into());
        shared.must(
            "make mounts private",
            libc::mount(
                ptr::null(),
                c"/".as_ptr(),
                ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                ptr::null(),
            )
            .into(),
        );
        if shared.root >= 0 {
            change_root(shared);
        }
        /// The first number that the program does not find taken.
        const ABOVE: libc::c_int = 4;
        // Both descriptors may be in each other's way: move them above all that follow first.
        let socket = libc::fcntl(shared.socket, libc::F_DUPFD_CLOEXEC, ABOVE);
        let program = libc::fcntl(shared.program, libc::F_DUPFD_CLOEXEC, ABOVE);
        let null = libc::fcntl(shared.null, libc::F_DUPFD_CLOEXEC, ABOVE);
        shared.must("dup", socket.min(program).min(null).into());
        for fd in 0..3 {
            shared.must("dup", libc::dup2(null, fd).into());
        }
        shared.must("dup", libc::dup2(socket, 3).into());
        // Everything else closes at exec; what was opened without the flag, too.
        shared.must(
            "close_range",
            libc::syscall(libc::SYS_close_range, 4, u32::MAX, libc::CLOSE_RANGE_CLOEXEC),
        );
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            shared.argv.as_ptr(),
            [ptr::null::<libc::c_char>()].as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    shared.fail("execute the program")
}

/// # Safety
/// Only in the inner child: it changes the root of its mount namespace.
unsafe fn change_root(shared: &mut Shared) {
    // SAFETY: plain syscalls on a descriptor and constants.
    unsafe {
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
        let moved = libc::syscall(
            libc::SYS_move_mount,
            shared.root,
            c"".as_ptr(),
            libc::AT_FDCWD,
            c"/tmp".as_ptr(),
            flags,
        );
        shared.must("attach root", moved);
        shared.must("enter root", libc::chdir(c"/tmp".as_ptr()).into());
        shared
            .must("pivot_root", libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()));
        shared.must("leave old root", libc::umount2(c".".as_ptr(), libc::MNT_DETACH).into());
    }
}
