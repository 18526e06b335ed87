//! Memory, in processes and outside of them.

use std::time::Duration;

use crate::{
    attack::{Fault, Outcome, Who, hold},
    field::Field,
    host,
    sandbox::{Launch, Sandbox},
};

const MIB: u64 = 1 << 20;

fn limit(sandbox: &Sandbox) -> Result<u64, Fault> {
    let agent = host::agent_of(sandbox)?;
    let file = host::cgroup_file(agent, ("memory", "memory.limit_in_bytes"), "memory.max")?;
    host::number(file).ok_or_else(|| Fault::broken("the sandbox has no memory limit"))
}

fn kills() -> u64 {
    host::counted("/proc/vmstat", "oom_kill").unwrap_or(0)
}

pub(super) fn beyond_the_limit(field: &Field<'_>, who: Who) -> Outcome {
    let hog = field.fresh()?;
    let limit = limit(&hog)?;
    let said = field.about(&hog)?["memoryMB"].as_u64().unwrap_or(0);
    hold!(said * MIB == limit, "the API says {said} MiB, the kernel {limit} bytes");
    let (before, available) = (kills(), host::available());
    let program = format!("a = bytearray({}); print(len(a))", limit * 2);
    let launch =
        Launch { limit: Duration::from_secs(60), ..Launch::new("python3", &["-c", &program], who) };
    let output = hog.run(&launch)?;
    hold!(output.code != 0, "twice the memory could be had: {}", output.said());
    let killed = output.status.contains("killed")
        || output.code == 137
        || output.stderr.contains("MemoryError");
    hold!(killed, "the program ended with {} {}", output.code, output.status);
    hold!(hog.is_well(), "the sandbox did not outlive it");
    hold!(kills() > before, "the kernel counted no kill");
    hold!(
        available.saturating_sub(host::available()) < limit + 512 * MIB,
        "the host's memory went"
    );
    let path = format!("/v2/sandboxes/{}/logs", hog.id());
    let told = field.until(Duration::from_secs(10), || {
        field.api("GET", &path).is_ok_and(|logs| logs.text().to_lowercase().contains("oom"))
    })?;
    hold!(told, "the client is not told why");
    Ok(format!("killed inside at {} MiB, and the client is told", limit / MIB))
}

pub(super) fn files_in_memory(field: &Field<'_>, who: Who) -> Outcome {
    let sandbox = field.fresh()?;
    let limit = limit(&sandbox)?;
    let agent = host::agent_of(&sandbox)?;
    let usage = host::cgroup_file(agent, ("memory", "memory.usage_in_bytes"), "memory.current")?;
    let available = host::available();
    let line = format!("head -c {} /dev/zero > /dev/shm/fill; ls -l /dev/shm/fill", limit * 2);
    sandbox.run(&Launch {
        limit: Duration::from_secs(60),
        ..Launch::new("/bin/sh", &["-c", &line], who)
    })?;
    let used = host::number(usage).unwrap_or(0);
    hold!(used > limit / 2 && used <= limit, "{used} of {limit} bytes are charged");
    let went = available.saturating_sub(host::available());
    hold!(went < limit + 512 * MIB, "{went} bytes of the host's memory went");
    Ok(format!("{} MiB charged of {}", used / MIB, limit / MIB))
}

pub(super) fn kernel_memory(field: &Field<'_>) -> Outcome {
    let mut held = Vec::new();
    for kind in ["memfd", "hugetlb", "shm", "pipes", "sockets"] {
        let sandbox = field.fresh()?;
        let limit = limit(&sandbox)?;
        let agent = host::agent_of(&sandbox)?;
        let usage =
            host::cgroup_file(agent, ("memory", "memory.usage_in_bytes"), "memory.current")?;
        let (available, pages) = (host::available(), huge_pages());
        let arguments = [&limit.to_string(), kind];
        let program = include_str!("../../../programs/kernel_memory.py");
        // It may be killed, which is what the limit is for.
        let output =
            sandbox.python_within(program, &arguments, Who::Root, Duration::from_secs(40))?;
        let used = host::number(&usage).unwrap_or(0);
        hold!(used <= limit, "{kind}: {used} of {limit} bytes are charged");
        let went = available.saturating_sub(host::available());
        hold!(went < limit + 512 * MIB, "{kind}: {went} bytes of the host's memory went");
        hold!(huge_pages() == pages, "{kind}: the host's huge pages went");
        field.kill(&sandbox)?;
        let back = field.until(Duration::from_secs(10), || !usage.exists())?;
        hold!(back, "{kind}: the memory outlives the sandbox");
        let said: serde_json::Value = serde_json::from_str(output.said()).unwrap_or_default();
        held.push(match said["held"].as_u64() {
            Some(bytes) => format!("{kind} {} MiB", bytes / MIB),
            None => format!("{kind} killed"),
        });
    }
    Ok(held.join(", "))
}

fn huge_pages() -> Option<u64> {
    host::counted("/proc/meminfo", "HugePages_Free:")
}
