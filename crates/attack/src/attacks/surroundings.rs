//! What of the host can be reached or recognised: sockets, ports, files that name the machine.

use std::fs;

use super::strangers;
use crate::{
    attack::{Attack, Group::Kernel, How, Outcome, Who, hold},
    field::{Field, unique},
    host,
};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "kernel-abstract-sockets",
        group: Kernel,
        title: "abstract UNIX sockets of the host, as those of containerd and X11",
        defence: "network namespace",
        remains: "",
        how: How::Once(abstract_sockets),
    },
    Attack {
        id: "kernel-socket-files",
        group: Kernel,
        title: "sockets of services of the host anywhere in the tree",
        defence: "nothing of the host but the template is in the tree",
        remains: "",
        how: How::Once(socket_files),
    },
    Attack {
        id: "kernel-agent-port",
        group: Kernel,
        title: "a process inside takes the agent's port",
        defence: "the agent listens before hostile code runs; clients come through a socket of its own",
        remains: "",
        how: How::Once(agent_port),
    },
    Attack {
        id: "kernel-fingerprint",
        group: Kernel,
        title: "a walk through `/sys` and all that could name the machine or the data directory",
        defence: "`/sys` of our own; masks; machine id, boot id and host name per sandbox",
        remains: "CPU model, kernel version, uptime, load and memory of the machine are seen",
        how: How::Once(fingerprint),
    },
    Attack {
        id: "kernel-core-files",
        group: Kernel,
        title: "a crash that starts a helper of the host or leaves a large file",
        defence: "a hard core limit of one byte, at which the kernel starts no helper",
        remains: "",
        how: How::Once(core_files),
    },
];

fn abstract_sockets(field: &Field<'_>) -> Outcome {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    };
    let name = unique("soulbox-attack-");
    let address = SocketAddr::from_abstract_name(&name)?;
    let _listener = UnixListener::bind_addr(&address)?;
    let program = include_str!("../../programs/abstract_socket.py");
    let found = field.shared()?.finds(program, &[&name], Who::Root)?;
    hold!(found["connect"] == "ECONNREFUSED", "connect answers {}", found["connect"]);
    hold!(found["listed"] == 0, "the name is seen inside");
    Ok("ECONNREFUSED, and not listed".into())
}

fn socket_files(field: &Field<'_>) -> Outcome {
    let line = "find / -xdev -type s 2>/dev/null; find /dev /run /sys -type s 2>/dev/null; \
                find / -xdev -name '*.sock' -not -type f -not -type d -not -type l 2>/dev/null";
    let found = field.fresh()?.says(line, Who::Root)?;
    hold!(found.is_empty(), "{found}");
    Ok("no socket in the tree".into())
}

fn agent_port(field: &Field<'_>) -> Outcome {
    let shared = field.shared()?;
    let found = shared.finds(include_str!("../../programs/agent_port.py"), &[], Who::Root)?;
    let wrong = strangers(&found, &["EADDRINUSE"]);
    hold!(wrong.is_empty() && !found.to_string().contains("null"), "bind answers {found}");
    hold!(shared.is_well(), "the agent does not answer any more");
    Ok("EADDRINUSE".into())
}

fn fingerprint(field: &Field<'_>) -> Outcome {
    let (shared, neighbour) = (field.shared()?, field.neighbour()?);
    let files = shared.says("find /sys -type f | sort", Who::Root)?;
    let known = [
        "/sys/devices/system/cpu/",
        "/sys/devices/system/node/",
        "/sys/fs/cgroup/",
        "/sys/kernel/mm/transparent_hugepage/",
    ];
    let wrong: Vec<_> =
        files.lines().filter(|file| !known.iter().any(|known| file.starts_with(known))).collect();
    hold!(!files.is_empty() && wrong.is_empty(), "/sys shows {wrong:?}");
    let kind = shared.says("find /sys -type d -exec stat -f -c %T {} + | sort -u", Who::Root)?;
    hold!(kind.trim() == "tmpfs", "below /sys lie {kind:?}");
    let masked = "for f in interrupts iomem ioports diskstats partitions consoles misc zoneinfo buddyinfo softirqs \
                  schedstat kallsyms timer_list; do test -s /proc/$f && wc -c /proc/$f; done; \
                  ls /proc/fs /proc/bus /proc/irq /proc/driver /proc/acpi 2>/dev/null | grep -v : ; true";
    let said = shared.says(masked, Who::Root)?;
    let content: Vec<_> =
        said.lines().filter(|line| !line.is_empty() && !line.starts_with("0 ")).collect();
    hold!(content.is_empty(), "/proc tells of the machine: {content:?}");
    let lines = "cat /proc/iomem /proc/interrupts /proc/diskstats /proc/partitions 2>/dev/null | head -c 100";
    hold!(shared.says(lines, Who::Root)?.is_empty(), "masked files have content");
    for path in ["/proc/sys/kernel/random/boot_id", "/etc/machine-id", "/proc/sys/kernel/hostname"]
    {
        let line = format!("cat {path}");
        let (here, there) = (shared.says(&line, Who::User)?, neighbour.says(&line, Who::User)?);
        let own = host::text(path);
        let all = [here.as_str(), there.as_str(), own.trim()];
        let distinct = all.iter().enumerate().all(|(at, one)| !all[..at].contains(one));
        hold!(distinct && !here.is_empty(), "{path}: {all:?}");
    }
    let seen = "cat /proc/self/mountinfo /proc/self/mountstats /proc/mounts /proc/swaps /proc/partitions /proc/cmdline \
                /proc/modules /proc/net/* /proc/self/cgroup /proc/1/mountinfo /proc/1/cgroup 2>/dev/null; true";
    let seen = shared.says(seen, Who::Root)?;
    let data_dir = field.ground.data_dir.to_string_lossy().into_owned();
    let name = host::text("/proc/sys/kernel/hostname");
    hold!(!seen.contains(&data_dir), "the data directory is seen");
    hold!(seen.lines().all(|line| line != name.trim()), "the host's name is seen");
    hold!(!seen.contains(neighbour.id()), "the neighbour's id is seen");
    let lower = seen.lines().filter(|line| line.contains("lowerdir="));
    let paths: Vec<_> = lower
        .flat_map(|line| line.split(','))
        .filter(|option| option.contains("dir=") && !option.contains("dir=/proc/self/fd/"))
        .collect();
    hold!(paths.is_empty(), "the overlay's options show {paths:?}");
    Ok("no path, id or name of the host, no hardware but the CPU".into())
}

fn core_files(field: &Field<'_>) -> Outcome {
    let shared = field.shared()?;
    let found = shared.finds(include_str!("../../programs/core_limit.py"), &[], Who::Root)?;
    hold!(found["limit"] == serde_json::json!([1, 1]), "the core limit is {}", found["limit"]);
    hold!(found["raised"] == false, "the core limit can be raised");
    let before = crashes();
    let line = "mkdir -p /tmp/crash && cd /tmp/crash && sh -c 'kill -SEGV $$'; \
                find /tmp/crash -type f -size +1k";
    let left = shared.shell(line, Who::Root)?;
    hold!(left.said().is_empty(), "a core file: {}", left.said());
    hold!(crashes() == before, "a core file on the host: {:?}", crashes());
    Ok("no helper, no file".into())
}

/// Core files where a kernel without a helper would put them.
fn crashes() -> Vec<String> {
    let entries = fs::read_dir("/").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("core")).collect()
}
