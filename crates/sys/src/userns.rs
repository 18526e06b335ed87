//! User namespaces with a range of ids of their own.

use std::{io, os::fd::OwnedFd, ptr};

use crate::{
    check,
    init::{BlockSignals, Stack},
};

/// How many ids one namespace maps: 0 to 65535 inside.
pub const RANGE: u32 = 65536;

/// Makes a user namespace in which ids 0 to 65535 are `base` to `base + 65535` outside.
///
/// The namespace lives as long as the descriptor or anything in it. It is owned by the user `base`:
/// the kernel charges what a namespace uses up (inotify instances, queued signals and timers,
/// message queues, locked memory) to its owner too, and were that root, each sandbox could use up
/// what the host's root and all other sandboxes need.
///
/// # Errors
/// What `clone(2)`, `setresuid(2)` and the writes to `uid_map` and `gid_map` report: the caller must
/// hold `CAP_SETUID` and `CAP_SETGID` outside.
pub fn create(base: u32) -> io::Result<OwnedFd> {
    let holder = Holder::start(base)?;
    write_maps(holder.pid, base)
}

/// A process in a new user namespace, which ends with this.
struct Holder {
    pid: libc::pid_t,
    /// In use until it has ended.
    _stack: Stack,
    _shared: Box<Shared>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: kills a child of ours; its pid cannot have been reused before it is reaped.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        reap(self.pid);
    }
}

impl Holder {
    fn start(base: u32) -> io::Result<Self> {
        let (mut owner_stack, mut holder_stack) = (Stack::new(), Stack::new());
        let mut shared = Box::new(Shared {
            base,
            // SAFETY: asks for this process's own id.
            caller: unsafe { libc::getpid() },
            holder_stack: holder_stack.top(),
            holder: 0,
            errno: 0,
        });
        let blocked = BlockSignals::new()?;
        // No exit signal: the server's SIGCHLD handling never hears of these children.
        let flags = libc::CLONE_VM | libc::CLONE_VFORK;
        let argument: *mut Shared = &raw mut *shared;
        // SAFETY: the child runs on its own stack while this thread is stopped (CLONE_VFORK), makes
        // plain system calls only and leaves by `_exit`; `shared` outlives it.
        let owner =
            check(unsafe { libc::clone(own, owner_stack.top(), flags, argument.cast()) }.into())?
                as libc::pid_t;
        drop(blocked);
        reap(owner);
        // The child wrote through the pointer behind the compiler's back.
        // SAFETY: `shared` is live; volatile reads of plain fields.
        let (pid, errno) = unsafe {
            (
                ptr::read_volatile(&raw const (*argument).holder),
                ptr::read_volatile(&raw const (*argument).errno),
            )
        };
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(Self { pid, _stack: holder_stack, _shared: shared })
    }
}

/// What both children see of the caller's memory.
struct Shared {
    base: u32,
    caller: libc::pid_t,
    holder_stack: *mut libc::c_void,
    holder: libc::pid_t,
    errno: i32,
}

/// Becomes the user who owns the namespace, and makes a process in it that is a child of the caller.
extern "C" fn own(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `create` passes a `Shared` that outlives this child, and its thread is stopped.
    let shared = unsafe { &mut *argument.cast::<Shared>() };
    // Where only privileged users may make user namespaces: keep the privileges as another user.
    const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    let keep: libc::uid_t = libc::uid_t::MAX;
    let flags = libc::CLONE_NEWUSER | libc::CLONE_VM | libc::CLONE_PARENT;
    // SAFETY: plain system calls; `setresuid` by its number, for the C library's function would
    // change all threads of the caller. `errno` is the stopped caller's, which this child shares.
    unsafe {
        libc::prctl(libc::PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP);
        let mut made = libc::syscall(libc::SYS_setresuid, keep, shared.base, keep);
        if made >= 0 {
            made = libc::clone(hold, shared.holder_stack, flags, argument).into();
        }
        if made < 0 {
            shared.errno = (*libc::__errno_location()).max(1);
        }
        shared.holder = made as libc::pid_t;
        libc::_exit(0)
    }
}

/// Keeps the namespace alive until there is a descriptor of it. Ends with the caller, whose descriptors it has
/// copies of: whoever is connected to a server that was killed must hear of it.
extern "C" fn hold(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `Holder` keeps the `Shared` until this has ended; where the caller is dead, the memory that it shared
    // is still there.
    let caller = unsafe { (*argument.cast::<Shared>()).caller };
    // SAFETY: plain system calls, none of which fails here, so none writes the shared `errno`: `pause` never
    // returns as all signals are blocked and the only way out is SIGKILL.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // It may have died before that.
        while libc::getppid() == caller {
            libc::syscall(libc::SYS_pause);
        }
        libc::_exit(0)
    }
}

fn reap(pid: libc::pid_t) {
    // SAFETY: waits for a child of ours; no memory is passed.
    while unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) } < 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
}

fn write_maps(pid: i32, base: u32) -> io::Result<OwnedFd> {
    let map = format!("0 {base} {RANGE}");
    std::fs::write(format!("/proc/{pid}/uid_map"), &map)?;
    std::fs::write(format!("/proc/{pid}/gid_map"), &map)?;
    Ok(std::fs::File::open(format!("/proc/{pid}/ns/user"))?.into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::{fd::AsRawFd, unix::net::UnixStream},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn the_holder_ends_with_a_caller_that_is_killed() {
        // SAFETY: asks for this thread's own ids.
        if unsafe { libc::geteuid() } != 0 {
            return;
        }
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        // SAFETY: the child makes a holder, says its number and waits to be killed.
        let caller = unsafe { libc::fork() };
        if caller == 0 {
            let holder = Holder::start(0x7E00_0000);
            let pid = holder.as_ref().map_or(0, |holder| holder.pid);
            let _ = theirs.write_all(&pid.to_le_bytes());
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        }
        let mut pid = [0; 4];
        ours.read_exact(&mut pid).unwrap();
        let pid = libc::pid_t::from_le_bytes(pid);
        assert!(pid > 0, "no holder was made");
        // SAFETY: a child of ours that is not reaped yet.
        unsafe { libc::kill(caller, libc::SIGKILL) };
        reap(caller);
        drop(theirs);
        let began = Instant::now();
        // Its copy of the socket is the last one.
        let mut rest = Vec::new();
        ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let closed = ours.read_to_end(&mut rest);
        // SAFETY: whatever became of it.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        assert!(closed.is_ok(), "it lives after {:?}", began.elapsed());
    }

    #[test]
    fn the_owner_is_root_of_the_range_and_not_of_the_host() {
        let base = 0x7E00_0000;
        let namespace = match create(base) {
            // Only root can make one.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            made => made.unwrap(),
        };
        // ioctl_ns(2).
        const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;
        let mut owner: libc::uid_t = 0;
        // SAFETY: the descriptor is open, and `owner` lives through the call.
        let asked = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &mut owner) };
        assert_eq!((asked, owner), (0, base));
        // SAFETY: asks for this thread's own ids.
        assert_eq!(unsafe { libc::geteuid() }, 0, "the caller stays who it is");
    }
}
