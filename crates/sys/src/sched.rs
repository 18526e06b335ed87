//! How the scheduler treats this process.

use std::io;

use crate::check;

/// `struct sched_attr` of sched_setattr(2), its first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// For the default policy: the length of a time slice in nanoseconds, since Linux 6.12.
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SCHED_OTHER: u32 = 0;
/// Children have what every process has.
const RESET_ON_FORK: u64 = 1;
/// The shortest that the kernel takes is 0.1 ms.
const SHORT_SLICE_NS: u64 = 100_000;

/// Asks for short time slices: on a busy machine this thread then gets a processor soon after it has
/// something to do, and no more of it than any other. Needs no privilege; without effect before
/// Linux 6.12. `heirs`: whether threads and children that it starts from now on ask for the same.
///
/// # Errors
/// What sched_setattr(2) reports.
pub fn answer_quickly(heirs: bool) -> io::Result<()> {
    let nice = rustix::process::getpriority_process(None)?;
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: SCHED_OTHER,
        flags: if heirs { 0 } else { RESET_ON_FORK },
        nice,
        runtime: SHORT_SLICE_NS,
        ..Attributes::default()
    };
    // SAFETY: `attributes` is as large as it says and lives through the call, which only reads it.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    check(ret).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_it() {
        std::thread::spawn(|| answer_quickly(false).unwrap()).join().unwrap();
        std::thread::spawn(|| answer_quickly(true).unwrap()).join().unwrap();
    }
}
