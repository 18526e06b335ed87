//! The host's side: processes, cgroups, settings and counters as `/proc` and `/sys` show them.

mod kmsg;
mod packets;
mod process;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub(crate) use kmsg::KernelLog;
pub(crate) use packets::Packets;
pub(crate) use process::{agent_of, is_there, link, named, resident_mib, status};

use crate::attack::Fault;

/// A file's text, empty if there is none.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The first number of a file.
pub(crate) fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path).split_whitespace().next()?.parse().ok()
}

/// The number after a word at the start of a line, as `/proc/meminfo` and `/proc/vmstat` have them.
pub(crate) fn counted(path: impl AsRef<Path>, word: &str) -> Option<u64> {
    text(path).lines().find_map(|line| {
        let mut parts = line.split_whitespace();
        (parts.next()? == word).then(|| parts.next()?.parse().ok())?
    })
}

/// Settings of the kernel that belong to the machine.
const SETTINGS: &[&str] = &[
    "kernel/core_pattern",
    "kernel/modprobe",
    "kernel/hotplug",
    "kernel/panic",
    "kernel/sysrq",
    "kernel/randomize_va_space",
    "kernel/kptr_restrict",
    "kernel/pid_max",
    "kernel/hostname",
    "vm/overcommit_memory",
    "vm/swappiness",
    "vm/panic_on_oom",
    "fs/suid_dumpable",
    "fs/protected_symlinks",
    "net/ipv4/ip_forward",
];

pub(crate) fn settings() -> BTreeMap<&'static str, String> {
    let known = SETTINGS.iter().map(|name| (*name, text(Path::new("/proc/sys").join(name))));
    known.filter(|(_, value)| !value.is_empty()).collect()
}

/// Names of the kernel modules that are loaded.
pub(crate) fn modules() -> Vec<String> {
    let text = text("/proc/modules");
    text.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

/// The directory of a process's cgroup in each hierarchy, by controller; version 2 is `""`.
pub(crate) fn cgroups(pid: u32) -> BTreeMap<String, PathBuf> {
    let mut mounts = BTreeMap::new();
    for line in text("/proc/self/mountinfo").lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let Some(dash) = fields.iter().position(|field| *field == "-") else { continue };
        let (Some(place), Some(kind)) = (fields.get(4), fields.get(dash + 1)) else { continue };
        match *kind {
            "cgroup2" => drop(mounts.insert(String::new(), (*place).to_owned())),
            "cgroup" => {
                for option in fields.last().into_iter().flat_map(|options| options.split(',')) {
                    mounts.entry(option.to_owned()).or_insert_with(|| (*place).to_owned());
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    for line in text(format!("/proc/{pid}/cgroup")).lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        for controller in controllers.split(',') {
            if let Some(place) = mounts.get(controller) {
                found.insert(controller.to_owned(), PathBuf::from(format!("{place}{path}")));
            }
        }
    }
    found
}

/// A file of a process's cgroup: by controller and name of version 1, or by the name of version 2.
pub(crate) fn cgroup_file(
    pid: u32,
    (controller, v1): (&str, &str),
    v2: &str,
) -> Result<PathBuf, Fault> {
    let groups = cgroups(pid);
    let candidates =
        [groups.get(controller).map(|dir| dir.join(v1)), groups.get("").map(|dir| dir.join(v2))];
    let found = candidates.into_iter().flatten().find(|path| path.exists());
    found.ok_or_else(|| Fault::failed(format!("the sandbox has no cgroup with {v1} or {v2}")))
}

/// Bytes of memory that programs of the host could still have.
pub(crate) fn available() -> u64 {
    counted("/proc/meminfo", "MemAvailable:").unwrap_or(0) * 1024
}

/// Bytes of the host's disk that the sandbox store takes up.
pub(crate) fn stored(data_dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    if let Ok(about) = fs::metadata(data_dir.join("store.img")) {
        return about.blocks() * 512;
    }
    rustix::fs::statvfs(data_dir)
        .map_or(0, |stat| (stat.f_blocks - stat.f_bfree).saturating_mul(stat.f_frsize))
}
