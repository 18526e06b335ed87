//! Signals of the calling process.

use std::{io, ptr};

use crate::check;

/// What Rust's runtime handles to report an overflow of the stack.
const FAULTS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Gives the signals of memory faults their default action back.
///
/// For a PID 1 that hostile processes may signal. The kernel drops every signal from inside its
/// namespace for which PID 1 has no handler, be it `SIGKILL`. Rust's runtime handles these two to
/// report an overflow of the stack, and takes one that was merely sent for a fault: sent together
/// they end the process. A real fault still ends it.
///
/// # Errors
/// What `sigaction(2)` reports.
pub fn default_faults() -> io::Result<()> {
    for signal in FAULTS {
        // SAFETY: `sigaction` is plain data; all zeroes is `SIG_DFL` without flags and an empty mask.
        let action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: the action lives through the call; nobody asks for the old one.
        check(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) }.into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handlers() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap()
    }

    #[test]
    fn no_handler_is_left_for_a_fault() {
        let faults = FAULTS.iter().fold(0, |mask, signal| mask | 1 << (signal - 1));
        assert_ne!(handlers() & faults, 0, "Rust's runtime handles them, or there is no need");
        default_faults().unwrap();
        assert_eq!(handlers() & faults, 0);
    }
}
