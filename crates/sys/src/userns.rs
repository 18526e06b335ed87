//! User namespaces with a range of ids of their own.

use std::{io, os::fd::OwnedFd};

use crate::{check, init::Stack};

/// How many ids one namespace maps: 0 to 65535 inside.
pub const RANGE: u32 = 65536;

/// Makes a user namespace in which ids 0 to 65535 are `base` to `base + 65535` outside.
///
/// The namespace lives as long as the descriptor or anything in it.
///
/// # Errors
/// What `clone(2)` and the writes to `uid_map` and `gid_map` report: the caller must hold
/// `CAP_SETUID` and `CAP_SETGID` outside.
pub fn create(base: u32) -> io::Result<OwnedFd> {
    extern "C" fn wait_for_the_end(_: *mut libc::c_void) -> libc::c_int {
        loop {
            // SAFETY: `pause` touches no memory; it never returns as all signals are blocked
            // and the only way out is SIGKILL, so it does not write the shared `errno` either.
            unsafe { libc::syscall(libc::SYS_pause) };
        }
    }

    let mut stack = Stack::new();
    let blocked = crate::init::BlockSignals::new()?;
    // No exit signal: the server's SIGCHLD handling never hears of this child.
    let flags = libc::CLONE_NEWUSER | libc::CLONE_VM;
    // SAFETY: the child runs on its own stack, which outlives it because it is reaped below,
    // and executes nothing but `pause`.
    let pid = check(
        unsafe { libc::clone(wait_for_the_end, stack.top(), flags, std::ptr::null_mut()) }.into(),
    )? as i32;
    drop(blocked);
    let result = write_maps(pid, base);
    // SAFETY: kills and reaps the child made above; its pid cannot have been reused before the wait.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        while libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) < 0
            && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
        {}
    }
    result
}

fn write_maps(pid: i32, base: u32) -> io::Result<OwnedFd> {
    let map = format!("0 {base} {RANGE}");
    std::fs::write(format!("/proc/{pid}/uid_map"), &map)?;
    std::fs::write(format!("/proc/{pid}/gid_map"), &map)?;
    Ok(std::fs::File::open(format!("/proc/{pid}/ns/user"))?.into())
}
