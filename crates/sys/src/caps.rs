//! Capabilities of the calling thread.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities,
};

/// What root may do inside a sandbox: manage files, users and its own processes, bind low ports.
/// No mounts, no network configuration, no tracing of processes that hold more.
pub const SANDBOX: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE);

/// What a server that makes namespaces, mounts and cgroups has no use for. Sandboxes are not
/// touched by it: who enters a user namespace has all capabilities there.
pub const NOT_OF_THE_SERVER: CapabilitySet = CapabilitySet::SYS_MODULE
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::SYS_TIME)
    .union(CapabilitySet::SYS_PACCT)
    .union(CapabilitySet::SYS_TTY_CONFIG)
    .union(CapabilitySet::SYSLOG)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::MAC_OVERRIDE)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::WAKE_ALARM)
    .union(CapabilitySet::BLOCK_SUSPEND)
    .union(CapabilitySet::AUDIT_CONTROL)
    .union(CapabilitySet::AUDIT_READ)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::BPF);

/// Gives up these capabilities, for this thread and all that it starts, for good. Does what it can
/// for a process that may not.
///
/// # Errors
/// What `prctl(2)` and `capset(2)` report.
pub fn give_up(never: CapabilitySet) -> io::Result<()> {
    let held = capabilities(None)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in never.iter() {
            match remove_capability_from_bounding_set(capability) {
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective.difference(never),
            permitted: held.permitted.difference(never),
            inheritable: held.inheritable.difference(never),
        },
    )?;
    Ok(())
}

/// Gives up, for this thread and all that it starts, every capability outside `keep`, for good.
///
/// # Errors
/// What `prctl(2)` and `capset(2)` report.
pub fn confine(keep: CapabilitySet) -> io::Result<()> {
    for capability in CapabilitySet::all().difference(keep).iter() {
        match remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    set_capabilities(
        None,
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_gone() {
        // Capabilities belong to a thread, and this one ends with the test.
        std::thread::spawn(|| {
            give_up(NOT_OF_THE_SERVER).unwrap();
            let left = capabilities(None).unwrap();
            assert!(!left.permitted.intersects(NOT_OF_THE_SERVER));
            assert!(!left.effective.intersects(NOT_OF_THE_SERVER));
        })
        .join()
        .unwrap();
    }
}
