//! Starting a process of a user.
//!
//! The child shares the caller's memory and stops its thread until it executes the program
//! (`CLONE_VM|CLONE_VFORK`), so the cost does not depend on the caller's size, and a failed step
//! is reported through that memory instead of a pipe. Between clone and exec it may only make
//! plain system calls: no allocation, no lock, and none of the C library's wrappers for
//! credentials, which would change those of the caller's threads.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::process::{Pid, WaitOptions, waitpid};

use self::child::{Shared, enter};
use crate::{
    check,
    init::{BlockSignals, Stack},
};

mod child;

/// Sees to it that no descriptor but the standard three outlives an exec, whoever opened it.
///
/// # Errors
/// What `close_range(2)` reports.
pub fn close_all_on_exec() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: takes plain numbers, and closes nothing now.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) })?;
    Ok(())
}

/// What to start, and as whom.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// Paths of the program, tried in this order as a shell tries the directories of `PATH`.
    pub programs: &'a [CString],
    pub argv: &'a [CString],
    /// `NAME=value` each; nothing is inherited.
    pub env: &'a [CString],
    /// Entered with the rights of `user`.
    pub cwd: &'a CStr,
    /// Standard input, output and error; no other descriptor is open in the program.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Standard input is a terminal and becomes the controlling one.
    pub terminal: bool,
    /// The caller's own credentials when absent.
    pub user: Option<Credentials<'a>>,
    /// How much rather than others the kernel kills the process when memory runs out, -1000 to 1000.
    pub oom_score_adj: Option<i16>,
    pub unexecutable: Unexecutable<'a>,
}

/// User, group and supplementary groups.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'a [u32],
}

/// What the process of a program that cannot be executed writes to its standard error before it exits,
/// as a shell does: with 127 where the program does not exist, 126 where it may not be executed.
#[derive(Debug, Clone, Copy)]
pub struct Unexecutable<'a> {
    pub missing: &'a [u8],
    pub refused: &'a [u8],
}

/// A started process: a child of the caller, which has to wait for it.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct Failed {
    pub step: &'static str,
    #[source]
    pub source: io::Error,
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        Self::new(failed.source.kind(), failed)
    }
}

/// Starts the process and returns when it executes its program.
///
/// # Errors
/// The step that failed and what the kernel reported; no process is left behind then.
pub fn spawn(spawn: &Spawn<'_>) -> Result<Child, Failed> {
    let programs = pointers(spawn.programs);
    let argv = pointers(spawn.argv);
    let env = pointers(spawn.env);
    let mut script_argv = vec![c"/bin/sh".as_ptr(), ptr::null()];
    script_argv.extend(spawn.argv.iter().skip(1).map(|argument| argument.as_ptr()));
    script_argv.push(ptr::null());
    let mut shared = Shared {
        programs: programs.as_ptr(),
        argv: argv.as_ptr(),
        script_argv: script_argv.as_mut_ptr(),
        env: env.as_ptr(),
        cwd: spawn.cwd.as_ptr(),
        stdio: spawn.stdio.map(|fd| fd.as_raw_fd()),
        terminal: spawn.terminal,
        signals: child::handled(),
        user: spawn.user,
        oom_score_adj: spawn.oom_score_adj,
        unexecutable: spawn.unexecutable,
        step: "clone",
        errno: 0,
    };
    let mut stack = Stack::new();
    let blocked = BlockSignals::new().map_err(|source| Failed { step: "block signals", source })?;
    let started = clone(&mut shared, &mut stack);
    drop(blocked);
    let (pid, pidfd) = started.map_err(|source| Failed { step: "clone", source })?;
    // The child wrote through the pointer behind the compiler's back.
    // SAFETY: `shared` is a live local, and the child that wrote to it is gone or runs its program.
    let (step, errno) = unsafe {
        (ptr::read_volatile(&raw const shared.step), ptr::read_volatile(&raw const shared.errno))
    };
    if errno == 0 {
        return Ok(Child { pid, pidfd });
    }
    // Somebody who waits for all children may have been faster.
    while waitpid(Some(pid), WaitOptions::empty()).err() == Some(rustix::io::Errno::INTR) {}
    Err(Failed { step, source: io::Error::from_raw_os_error(errno) })
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

const FLAGS: libc::c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;

fn clone(shared: &mut Shared<'_>, stack: &mut Stack) -> io::Result<(Pid, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: the child runs on a stack of its own while this thread is stopped (CLONE_VFORK), so
    // `shared` and what it points to stay valid and unshared; it makes plain system calls only
    // and leaves by `execve` or `_exit`. `pidfd` is where CLONE_PIDFD stores the descriptor.
    let pid = unsafe {
        libc::clone(
            enter,
            stack.top(),
            FLAGS | libc::SIGCHLD,
            ptr::from_mut(shared).cast(),
            &raw mut pidfd,
        )
    };
    child(check(pid.into())?, pidfd)
}

fn child(pid: libc::c_long, pidfd: libc::c_int) -> io::Result<(Pid, OwnedFd)> {
    let pid = libc::pid_t::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("clone made no process"))?;
    // SAFETY: the kernel made this descriptor for us with the child, and nobody else has it.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

#[cfg(test)]
mod tests;
