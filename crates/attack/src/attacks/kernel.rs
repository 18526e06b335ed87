//! At the kernel itself: system calls, entry points, socket families, files that sandboxes share.

use std::time::Duration;

use super::strangers;
use crate::{
    attack::{Attack, Fault, Group::Kernel, How, Outcome, Who, hold},
    field::Field,
    host,
};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "kernel-namespaces",
        group: Kernel,
        title: "new namespaces by unshare and clone, also with high bits set; mounts of every kind",
        defence: "system call filter: no namespace flag, no mount call; no `CAP_SYS_ADMIN`",
        remains: "",
        how: How::Each(namespaces),
    },
    Attack {
        id: "kernel-clone3",
        group: Kernel,
        title: "clone3, whose arguments no filter can read",
        defence: "answered `ENOSYS`, so that C libraries fall back to clone",
        remains: "",
        how: How::Each(clone3),
    },
    Attack {
        id: "kernel-file-handles",
        group: Kernel,
        title: "Shocker: open_by_handle_at with handles of the root's first inodes",
        defence: "system call filter; no `CAP_DAC_READ_SEARCH`",
        remains: "",
        how: How::Each(file_handles),
    },
    Attack {
        id: "kernel-keyrings",
        group: Kernel,
        title: "add_key, request_key and keyctl on every keyring, and until the quota is used up",
        defence: "system call filter; masked `/proc/keys`",
        remains: "",
        how: How::Each(keyrings),
    },
    Attack {
        id: "kernel-doors",
        group: Kernel,
        title: "bpf, perf, io_uring, userfaultfd, modules, kexec, swap, clocks and 60 more by number",
        defence: "system call filter: `EPERM`, or `ENOSYS` for what has a fallback",
        remains: "",
        how: How::Each(doors),
    },
    Attack {
        id: "kernel-sockets",
        group: Kernel,
        title: "AF_ALG, AF_PACKET, AF_VSOCK, AF_XDP and every other family; netlink; SCTP, MPTCP, SMC",
        defence: "system call filter on family, type and protocol of `socket` and `socketpair`",
        remains: "",
        how: How::Each(sockets),
    },
    Attack {
        id: "kernel-entrances",
        group: Kernel,
        title: "the same calls as ia32 by `int 0x80`, as x32, and with a number wider than 32 bits",
        defence: "the filter answers other architectures and x32 numbers with `ENOSYS`",
        remains: "",
        how: How::Each(entrances),
    },
    Attack {
        id: "kernel-page-cache",
        group: Kernel,
        title: "Dirty Pipe, Dirty COW and plain writes on a file of the layer that others see",
        defence: "read-only lower layers below overlayfs; the kernel's own fixes",
        remains: "a new bug of the page cache reaches what sandboxes of one template share: keep the kernel current",
        how: How::Each(page_cache),
    },
    Attack {
        id: "kernel-setuid",
        group: Kernel,
        title: "setuid files, file capabilities, foreign ids and overlay attributes",
        defence: "user namespace of 65536 ids above 2³⁰; bounded capabilities",
        remains: "a setuid file makes its caller root inside, as `sudo` does",
        how: How::Once(setuid),
    },
    Attack {
        id: "kernel-layers-on-disk",
        group: Kernel,
        title: "a setuid file that root inside left, reached by a user of the host",
        defence: "layers lie in a directory of mode 0700, on a file system mounted `nodev`",
        remains: "",
        how: How::Once(layers_on_disk),
    },
];

fn namespaces(field: &Field<'_>, who: Who) -> Outcome {
    let program = include_str!("../../programs/namespaces.py");
    let found = field.shared()?.finds(program, &[], who)?;
    let mut tried = 0;
    for (name, results) in found.as_object().into_iter().flatten() {
        // A time namespace is not made by clone's low flags; the filter sees unshare alone there.
        let allowed: &[&str] =
            if name == "time" { &["EPERM", "EINVAL"] } else { &["EPERM", "ENOSYS"] };
        let wrong = strangers(results, allowed);
        hold!(wrong.is_empty(), "{name}: {wrong:?}");
        tried += results.as_array().map_or(0, Vec::len);
    }
    hold!(tried > 40, "only {tried} calls were tried");
    Ok(format!("{tried} calls refused"))
}

fn clone3(field: &Field<'_>, who: Who) -> Outcome {
    let found = field.shared()?.finds(include_str!("../../programs/clone3.py"), &[], who)?;
    let wrong = strangers(&found["clone3"], &["ENOSYS"]);
    hold!(wrong.is_empty(), "clone3 answers {wrong:?}");
    hold!(found["fallback"] == "forked", "the C library finds no way to start a process: {found}");
    Ok("ENOSYS, and the C library falls back".into())
}

fn file_handles(field: &Field<'_>, who: Who) -> Outcome {
    let found = field.shared()?.finds(include_str!("../../programs/file_handles.py"), &[], who)?;
    let wrong = strangers(&found, &["EPERM"]);
    hold!(wrong.is_empty(), "open_by_handle_at answers {wrong:?}");
    Ok("EPERM for every handle".into())
}

fn keyrings(field: &Field<'_>, who: Who) -> Outcome {
    let before = host::text("/proc/key-users");
    let found = field.shared()?.finds(include_str!("../../programs/keyrings.py"), &[], who)?;
    let wrong = strangers(&found["calls"], &["EPERM", "EACCES"]);
    hold!(wrong.is_empty(), "keyrings answer {wrong:?}");
    hold!(found["listed"] == "" || found["listed"] == "ENOENT", "/proc/keys shows {found}");
    let users = |text: &str| text.lines().filter(|line| line.contains(':')).count();
    let after = host::text("/proc/key-users");
    hold!(users(&after) <= users(&before) + 1, "users with keys before:\n{before}after:\n{after}");
    Ok("no key was made, read or listed".into())
}

fn doors(field: &Field<'_>, who: Who) -> Outcome {
    let found = field.shared()?.finds(include_str!("../../programs/doors.py"), &[], who)?;
    let doors = found.as_object().map_or(0, serde_json::Map::len);
    hold!(doors > 50, "only {doors} calls were tried");
    let open: Vec<_> = found
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, result)| *result != "EPERM" && *result != "ENOSYS")
        .collect();
    hold!(open.is_empty(), "open: {open:?}");
    Ok(format!("{doors} calls refused"))
}

fn sockets(field: &Field<'_>, who: Who) -> Outcome {
    let before = host::modules();
    let found = field.shared()?.finds(include_str!("../../programs/sockets.py"), &[], who)?;
    for kind in ["families", "pairs", "links", "protocols"] {
        let open = found[kind].as_array().map_or(1, Vec::len);
        hold!(open == 0, "{kind} that should be closed: {}", found[kind]);
    }
    hold!(found["usual"] == true, "UNIX, IPv4 and IPv6 do not work: {found}");
    let loaded: Vec<_> =
        host::modules().into_iter().filter(|name| !before.contains(name)).collect();
    let asked = ["sctp", "dccp", "mptcp", "smc", "tipc", "rds", "can", "vsock", "af_", "bluetooth"];
    let ours = loaded.iter().find(|name| asked.iter().any(|asked| name.contains(asked)));
    hold!(ours.is_none(), "the host loaded modules for a sandbox: {loaded:?}");
    Ok("UNIX, IPv4, IPv6 and netlink for routes and socket lists; nothing else".into())
}

fn entrances(field: &Field<'_>, who: Who) -> Outcome {
    let output = field.shared()?.python_within(
        include_str!("../../programs/entrances.py"),
        &[],
        who,
        Duration::from_secs(20),
    )?;
    let mut tried = 0;
    for line in output.stdout.lines() {
        let result = line.rsplit(' ').next().unwrap_or_default();
        hold!(result == "-38" || result == "-1", "{line}");
        tried += 1;
    }
    match (tried, output.code) {
        (17, 0) => Ok("17 calls refused".into()),
        // Programs end at an entrance that the kernel does not have.
        (9, code) if code < 0 => Ok("x32 refused; this kernel has no ia32 entrance".into()),
        _ => Err(Fault::failed(format!("{} {}", output.status, output.stderr))),
    }
}

fn page_cache(field: &Field<'_>, who: Who) -> Outcome {
    let (attacker, neighbour) = (field.fresh()?, field.neighbour()?);
    let shared = "for f in /usr/bin/env /etc/debian_version /etc/passwd; do sha256sum $f; done";
    let before = neighbour.says(shared, Who::User)?;
    for victim in ["/usr/bin/env", "/etc/passwd"] {
        let found = attacker.finds(include_str!("../../programs/page_cache.py"), &[victim], who)?;
        hold!(found["tried"] == true, "{found}");
    }
    let now = neighbour.says(shared, Who::User)?;
    hold!(now == before, "the neighbour's files changed: {now}");
    let line = "for f in /etc/debian_version /etc/passwd; do chmod 777 $f; echo PWNED > $f; \
                setfattr -n trusted.overlay.opaque -v y /etc; done 2>/dev/null; true";
    attacker.shell(line, Who::Root)?;
    let now = neighbour.says(shared, Who::User)?;
    hold!(now == before, "a write changed the neighbour's files: {now}");
    let next = field.fresh()?.says(shared, Who::User)?;
    hold!(next == before, "the next sandbox has other files: {next}");
    Ok("the neighbour and the next sandbox have the same files as before".into())
}

fn setuid(field: &Field<'_>) -> Outcome {
    let sandbox = field.fresh()?;
    let mark = format!("{}", 100_000_000 + rand::random::<u32>() % 100_000_000);
    // Busy shells of the machine call themselves anything; a copy of its own name cannot be mistaken.
    let line = "cp $(readlink -f $(command -v sleep)) /tmp/suid-sleep && chown 0:0 /tmp/suid-sleep \
                && chmod 6755 /tmp/suid-sleep";
    sandbox.shell(line, Who::Root)?;
    let command = format!("exec /tmp/suid-sleep {mark}");
    let launch = crate::sandbox::Launch::new("/bin/sh", &["-c", &command], Who::User);
    sandbox.start(&launch)?.leave();
    let wanted = format!("/tmp/suid-sleep {mark}");
    let mut pids = Vec::new();
    field.until(Duration::from_secs(5), || {
        pids = host::named(&wanted);
        !pids.is_empty()
    })?;
    let Some(pid) = pids.first() else {
        return Err(Fault::failed("the setuid program is not seen on the host"));
    };
    let status = host::status(*pid);
    let ids = ["Uid", "Gid"]
        .iter()
        .flat_map(|name| status.get(*name).map(String::as_str))
        .collect::<Vec<_>>()
        .join("\t");
    let low =
        ids.split_whitespace().filter_map(|id| id.parse::<u64>().ok()).find(|id| *id < 1 << 30);
    hold!(low.is_none() && !ids.is_empty(), "the host sees it as {ids}");
    let mask = |name: &str| status.get(name).and_then(|text| u64::from_str_radix(text, 16).ok());
    let effective = mask("CapEff").unwrap_or(u64::MAX);
    // net_admin, sys_module, sys_rawio, sys_ptrace, sys_admin, sys_boot, sys_time, mac_*, syslog, bpf, perfmon.
    let dangerous = [12, 16, 17, 19, 21, 22, 25, 32, 33, 34, 38, 39];
    let held: Vec<_> = dangerous.iter().filter(|bit| effective >> **bit & 1 == 1).collect();
    hold!(held.is_empty(), "the setuid program holds capabilities {held:?}");
    let found = sandbox.finds(include_str!("../../programs/foreign_ids.py"), &[], Who::Root)?;
    let wrong = strangers(&found["ids"], &["EINVAL"]);
    hold!(wrong.is_empty(), "ids outside of the range: {wrong:?}");
    let wrong = strangers(&found["attributes"], &["EPERM", "EOPNOTSUPP"]);
    hold!(wrong.is_empty(), "attributes of the host's: {wrong:?}");
    Ok(format!("setuid root inside is {} outside", ids.split('\t').nth(1).unwrap_or_default()))
}

fn layers_on_disk(field: &Field<'_>) -> Outcome {
    use std::os::unix::fs::MetadataExt as _;
    let layers = field.ground.data_dir.join("store/layers");
    let Ok(about) = std::fs::metadata(&layers) else {
        return Err(Fault::skipped("what sandboxes write lies in memory here, not on disk"));
    };
    hold!(about.mode() & 0o777 == 0o700, "{} has mode {:o}", layers.display(), about.mode());
    hold!(about.uid() == 0, "{} belongs to {}", layers.display(), about.uid());
    let store = layers.with_file_name("");
    let store = store.to_string_lossy();
    let mounts = host::text("/proc/self/mountinfo");
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(4).is_some_and(|place| *place == store.trim_end_matches('/')));
    let Some(mount) = mount else {
        return Err(Fault::skipped("the store is no mount of its own here"));
    };
    let options = mount.get(5).copied().unwrap_or_default();
    hold!(options.split(',').any(|option| option == "nodev"), "the store is mounted {options}");
    Ok("mode 0700, root's, nodev".into())
}
