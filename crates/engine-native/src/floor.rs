//! The physical floor: what the kernel alone needs for a process with a sandbox's namespaces,
//! cgroups and root, with nothing of ours around it.

use std::{
    io,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, poll};
use soulbox_engine::{Error, Result, Rootfs};
use soulbox_model::{Resources, SandboxId};
use soulbox_sys::{init, memfd};

use crate::{Host, Native, end::Remains, identity, rootfs};

/// A static program of nine bytes: `exit(0)`.
const PROGRAM: &[u8] = &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];

/// Measures the floor on an open engine.
#[derive(Debug)]
pub struct Floor {
    host: Arc<Host>,
    program: std::os::fd::OwnedFd,
    rootfs: Rootfs,
    resources: Resources,
}

impl Floor {
    /// # Errors
    /// What `memfd_create(2)` reports.
    pub fn new(engine: &Native, rootfs: Rootfs, resources: Resources) -> io::Result<Self> {
        let program = memfd::sealed(c"floor", &elf())?;
        Ok(Self { host: Arc::clone(&engine.host), program, rootfs, resources })
    }

    /// From nothing until such a process has run and is reaped. Blocks; cleans up outside the time.
    ///
    /// # Errors
    /// The stage that failed.
    pub fn measure(&self) -> Result<Duration> {
        let slot = self.host.slots.take()?;
        let mut remains = Remains::new(slot);
        let measured = self.run(&mut remains);
        self.host.undertaker.bury(remains);
        measured
    }

    fn run(&self, remains: &mut Remains) -> Result<Duration> {
        let Some(slot) = remains.slot.clone() else {
            return Err(Error::Unsupported("no slot".into()));
        };
        let id = SandboxId::random();
        let host = &self.host;
        let started = Instant::now();
        remains.group = true;
        let membership =
            host.cgroups.create(&slot.group()).map_err(Error::stage("make a cgroup"))?;
        host.cgroups
            .limit(&slot.group(), &self.resources)
            .map_err(Error::stage("set the cgroup's limits"))?;
        remains.id = Some(id.clone());
        let layer = host
            .layers
            .create(&id, self.resources.disk_bytes)
            .map_err(Error::stage("make the writable layer"))?;
        rootfs::prepare(&layer, &slot, |directory| identity::write(directory, "floor"))
            .map_err(Error::stage("prepare the writable layer"))?;
        let assembled = rootfs::assemble(&self.rootfs, &layer, &slot)
            .map_err(Error::stage("assemble the root file system"))?;
        let process = init::start(&init::Init {
            userns: slot.userns.as_fd(),
            cgroups_v1: &membership.v1(),
            cgroup_v2: membership.v2.as_ref().map(AsFd::as_fd),
            program: self.program.as_fd(),
            argv0: c"floor",
            socket: host.null.as_fd(),
            null: host.null.as_fd(),
            root: Some(assembled.root.as_fd()),
        })
        .map_err(|failed| Error::Stage { stage: failed.stage, source: failed.source })?;
        let mut fds = [PollFd::new(&process.pidfd, PollFlags::IN)];
        poll(&mut fds, None).map_err(|e| Error::Stage { stage: "wait", source: e.into() })?;
        process.try_reap();
        Ok(started.elapsed())
    }
}

/// The smallest ELF file that Linux executes: header, one segment, the program.
fn elf() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + PROGRAM.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
    let long = |elf: &mut Vec<u8>, value: u64| elf.extend(value.to_le_bytes());
    half(&mut elf, 2); // ET_EXEC
    half(&mut elf, 62); // EM_X86_64
    word(&mut elf, 1);
    long(&mut elf, BASE + HEADERS); // entry
    long(&mut elf, 64); // program headers
    long(&mut elf, 0);
    word(&mut elf, 0);
    for value in [64, 56, 1, 0, 0, 0] {
        half(&mut elf, value);
    }
    word(&mut elf, 1); // PT_LOAD
    word(&mut elf, 5); // readable, executable
    for value in [0, BASE, BASE, size, size, 0x1000] {
        long(&mut elf, value);
    }
    elf.extend(PROGRAM);
    elf
}

/// A bare process without any namespace: fork, exec and wait of the same program.
///
/// # Errors
/// What the spawn reports.
pub fn bare(program: &str) -> io::Result<Duration> {
    let started = Instant::now();
    let status = std::process::Command::new(program).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{program}: {status}")));
    }
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_smallest_program_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("floor");
        fs::write(&path, elf()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(bare(path.to_str().unwrap()).unwrap() > Duration::ZERO);
    }
}
