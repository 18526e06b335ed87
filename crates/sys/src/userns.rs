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
    let (mut owner_stack, mut holder_stack) = (Stack::new(), Stack::new());
    let mut shared = Shared { base, holder_stack: holder_stack.top(), holder: 0, errno: 0 };
    let blocked = BlockSignals::new()?;
    // No exit signal: the server's SIGCHLD handling never hears of these children.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    // SAFETY: the child runs on its own stack while this thread is stopped (CLONE_VFORK), makes
    // plain system calls only and leaves by `_exit`; `shared` outlives it.
    let owner = check(
        unsafe { libc::clone(own, owner_stack.top(), flags, ptr::from_mut(&mut shared).cast()) }
            .into(),
    )? as libc::pid_t;
    drop(blocked);
    reap(owner);
    // The child wrote through the pointer behind the compiler's back.
    // SAFETY: `shared` is a live local; volatile reads of plain fields.
    let (holder, errno) = unsafe {
        (ptr::read_volatile(&raw const shared.holder), ptr::read_volatile(&raw const shared.errno))
    };
    if errno != 0 {
        return Err(io::Error::from_raw_os_error(errno));
    }
    let result = write_maps(holder, base);
    // SAFETY: kills the child made above; its pid cannot have been reused before it is reaped.
    unsafe { libc::kill(holder, libc::SIGKILL) };
    // Its stack is in use until here.
    reap(holder);
    result
}

/// What both children see of the caller's memory.
struct Shared {
    base: u32,
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
            made = libc::clone(hold, shared.holder_stack, flags, ptr::null_mut()).into();
        }
        if made < 0 {
            shared.errno = (*libc::__errno_location()).max(1);
        }
        shared.holder = made as libc::pid_t;
        libc::_exit(0)
    }
}

/// Keeps the namespace alive until there is a descriptor of it.
extern "C" fn hold(_: *mut libc::c_void) -> libc::c_int {
    loop {
        // SAFETY: `pause` touches no memory; it never returns as all signals are blocked
        // and the only way out is SIGKILL, so it does not write the shared `errno` either.
        unsafe { libc::syscall(libc::SYS_pause) };
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
    use std::os::fd::AsRawFd;

    use super::*;

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
