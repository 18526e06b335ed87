//! How fast connections of a namespace may send.
//!
//! Under a congestion control that spreads segments over time, as BBR does, each segment waits for a timer,
//! for the sake of queues on the way. Nothing in the namespace has such a queue, and the timers alone halve
//! what a flow carries; so connections inside are held by windows alone.

use std::{fs, io, sync::OnceLock};

const SETTING: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// Do not pace.
const PLAIN: [&str; 2] = ["cubic", "reno"];

/// Takes pacing from sockets that the caller's network namespace makes from now on. A new namespace has the
/// machine's setting, which is looked at once.
///
/// # Errors
/// What writing below `/proc/sys` reports.
pub(super) fn off() -> io::Result<()> {
    static PLAIN_ALREADY: OnceLock<bool> = OnceLock::new();
    let plain = || fs::read_to_string(SETTING).is_ok_and(|name| PLAIN.contains(&name.trim()));
    if *PLAIN_ALREADY.get_or_init(plain) {
        return Ok(());
    }
    // Every kernel has it, and every namespace may choose it.
    fs::write(SETTING, "reno")
}
