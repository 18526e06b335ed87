//! The child, between clone and exec: plain system calls, nothing else.

use std::{ops::RangeInclusive, os::fd::RawFd, ptr, sync::OnceLock};

use super::{Credentials, Unexecutable};

/// What the child sees of the caller's memory.
pub(super) struct Shared<'a> {
    pub(super) programs: *const *const libc::c_char,
    pub(super) argv: *const *const libc::c_char,
    /// `/bin/sh`, room for the script's path, the arguments.
    pub(super) script_argv: *mut *const libc::c_char,
    pub(super) env: *const *const libc::c_char,
    pub(super) cwd: *const libc::c_char,
    pub(super) stdio: [RawFd; 3],
    pub(super) terminal: bool,
    /// Of [`handled`].
    pub(super) signals: u64,
    pub(super) user: Option<Credentials<'a>>,
    pub(super) oom_score_adj: Option<i16>,
    pub(super) unexecutable: Unexecutable<'a>,
    pub(super) step: &'static str,
    pub(super) errno: i32,
}

/// The child's life, from clone to exec.
pub(super) extern "C" fn enter(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passes a pointer to its `Shared`, which nobody else uses while it is stopped.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    shared.run()
}

impl Shared<'_> {
    fn run(&mut self) -> ! {
        default_signals(self.signals);
        self.set_oom_score();
        // SAFETY: no memory is passed.
        self.must("setsid", unsafe { libc::syscall(libc::SYS_setsid) });
        self.set_stdio();
        if self.terminal {
            // SAFETY: takes a plain number.
            let ret = unsafe { libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSCTTY, 0) };
            self.must("TIOCSCTTY", ret);
        }
        // SAFETY: no memory is passed. The kernel may lack it; all our descriptors close on exec.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
        self.set_user();
        // SAFETY: `cwd` is a C string that `spawn` keeps; the other call passes a plain number.
        let ret = unsafe {
            libc::syscall(libc::SYS_umask, 0o022);
            libc::syscall(libc::SYS_chdir, self.cwd)
        };
        self.must("chdir", ret);
        unblock_signals();
        self.exec()
    }

    /// Best effort: `/proc` may be missing, and only a wish is lost.
    fn set_oom_score(&self) {
        let Some(score) = self.oom_score_adj else { return };
        let mut text = [0_u8; 8];
        let mut at = text.len();
        let mut rest = score.unsigned_abs();
        while at > 1 {
            at -= 1;
            text[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if score < 0 {
            at -= 1;
            text[at] = b'-';
        }
        let path = c"/proc/self/oom_score_adj".as_ptr();
        // A hostile /proc must not make the open wait.
        let flags = libc::O_WRONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: `path` is a static C string, `text` a local of which `at` is within bounds.
        unsafe {
            let file = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags);
            if file >= 0 {
                libc::syscall(libc::SYS_write, file, text.as_ptr().add(at), text.len() - at);
                libc::syscall(libc::SYS_close, file);
            }
        }
    }

    fn set_stdio(&mut self) {
        // First out of the way of the targets, then onto them.
        for index in 0..3 {
            let fd = self.stdio[index];
            if fd < 3 {
                // SAFETY: takes plain numbers.
                let moved = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, 3) };
                self.must("fcntl", moved);
                self.stdio[index] = moved as RawFd;
            }
        }
        for index in 0..3 {
            // SAFETY: takes plain numbers. The copies are not closed on exec.
            let ret = unsafe { libc::syscall(libc::SYS_dup3, self.stdio[index], index, 0) };
            self.must("dup3", ret);
        }
    }

    fn set_user(&mut self) {
        let Some(user) = self.user else { return };
        let (groups, gid, uid) = (user.groups, user.gid, user.uid);
        // SAFETY: `groups` is a slice that `spawn`'s caller keeps.
        let ret = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        self.must("setgroups", ret);
        // SAFETY: takes plain numbers.
        self.must("setresgid", unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) });
        // SAFETY: takes plain numbers.
        self.must("setresuid", unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) });
    }

    fn exec(&mut self) -> ! {
        let mut refused = false;
        let mut next = self.programs;
        loop {
            // SAFETY: `programs` ends with a null pointer, at which the loop ends.
            let program = unsafe { *next };
            if program.is_null() {
                break;
            }
            // SAFETY: not past the null pointer that was not read yet.
            next = unsafe { next.add(1) };
            // SAFETY: C strings and null-terminated arrays of them that `spawn` keeps.
            unsafe { libc::syscall(libc::SYS_execve, program, self.argv, self.env) };
            match errno() {
                libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG => {}
                // No `#!` line: shells run such a file themselves.
                libc::ENOEXEC => {
                    // SAFETY: `script_argv` has at least two places before its null pointer; the
                    // rest as above.
                    unsafe {
                        *self.script_argv.add(1) = program;
                        let shell = c"/bin/sh".as_ptr();
                        libc::syscall(libc::SYS_execve, shell, self.script_argv, self.env);
                    }
                    refused = true;
                    break;
                }
                libc::EACCES | libc::EPERM | libc::ELOOP | libc::ETXTBSY => refused = true,
                _ => self.fail("execve"),
            }
        }
        let said = self.unexecutable;
        let (text, code) = if refused { (said.refused, 126) } else { (said.missing, 127) };
        // SAFETY: writes from a slice that `spawn`'s caller keeps.
        unsafe { libc::syscall(libc::SYS_write, 2, text.as_ptr(), text.len()) };
        exit(code)
    }

    /// Notes a failed step for the caller and ends the child.
    fn fail(&mut self, step: &'static str) -> ! {
        self.errno = errno().max(1);
        self.step = step;
        exit(127)
    }

    fn must(&mut self, step: &'static str, ret: libc::c_long) {
        if ret < 0 {
            self.fail(step);
        }
    }
}

/// The signals that this process handles or ignores, a bit for each; looked up before the first child, so that
/// none makes 64 calls for the two or three that matter.
pub(super) fn handled() -> u64 {
    static HANDLED: OnceLock<u64> = OnceLock::new();
    *HANDLED.get_or_init(|| {
        SIGNALS.fold(0, |mask, signal| {
            let mut action = [0_u64; 4];
            sigaction(signal, ptr::null(), &raw mut action);
            if action[0] == 0 { mask } else { mask | 1 << (signal - 1) }
        })
    })
}

const SIGNALS: RangeInclusive<u32> = 1..=64;

/// No handler may run before exec, where it would find the caller's memory; and what the caller
/// ignores (a Rust program: `SIGPIPE`) the program must not.
fn default_signals(handled: u64) {
    let action = [0_u64; 4];
    for signal in SIGNALS.filter(|signal| handled & 1 << (signal - 1) != 0) {
        sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// The raw call, which reaches the two signals that the C library keeps for itself, too; of the kernel's
/// `sigaction`, the handler comes first, and all zeroes is `SIG_DFL` without flags and an empty mask.
fn sigaction(signal: u32, new: *const [u64; 4], old: *mut [u64; 4]) {
    let size = size_of::<u64>();
    // SAFETY: both are null or as long as the kernel's structure, and live through the call.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, size) };
}

fn unblock_signals() {
    let empty = 0_u64;
    // SAFETY: the kernel's signal set is 64 bits.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        );
    }
}

fn errno() -> i32 {
    // SAFETY: the stopped caller's thread-local, which the child shares.
    unsafe { *libc::__errno_location() }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the child without running anything of the caller's.
    unsafe { libc::_exit(code) }
}
