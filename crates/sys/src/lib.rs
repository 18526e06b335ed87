//! The kernel boundary: what SoulBox asks of Linux that safe crates do not offer.
//!
//! This is the only crate with `unsafe` code. Each module wraps one kernel facility in a small
//! safe interface and knows nothing of sandboxes: policy lives in `engine-native` (the host's
//! side) and `agent` (the inside). Newcomers start at [`init`], the two-stage spawn of a
//! process into fresh namespaces.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("SoulBox runs on Linux on x86_64 only for now");

pub mod btrfs;
pub mod caps;
pub mod init;
pub mod loopdev;
pub mod memfd;
pub mod mount;
pub mod netns;
pub mod outward;
pub mod pages;
pub mod pty;
pub mod sched;
pub mod scm;
pub mod seccomp;
pub mod signals;
pub mod spawn;
pub mod userns;

use std::io;

/// Turns the return value of a libc call into a result.
pub(crate) fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}
