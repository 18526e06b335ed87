//! Processes, by the numbers that the host gives them.

use std::{collections::BTreeMap, fs, path::Path};

use super::text;
use crate::{
    attack::{Fault, Who},
    sandbox::Sandbox,
};

/// Every process.
fn ids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

pub(crate) fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// `/proc/<pid>/status`.
pub(crate) fn status(pid: u32) -> BTreeMap<String, String> {
    let text = text(format!("/proc/{pid}/status"));
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Where a link of `/proc/<pid>` leads.
pub(crate) fn link(pid: u32, name: &str) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/{name}")).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// Each process's command line, words parted by blanks.
fn command_lines() -> impl Iterator<Item = (u32, String)> {
    ids().into_iter().filter_map(|pid| {
        let line = text(format!("/proc/{pid}/cmdline")).replace('\0', " ");
        (!line.is_empty()).then(|| (pid, line.trim_end().to_owned()))
    })
}

/// Processes whose command line is exactly this.
pub(crate) fn named(line: &str) -> Vec<u32> {
    command_lines().filter(|(_, known)| known == line).map(|(pid, _)| pid).collect()
}

/// Resident memory in MiB.
pub(crate) fn resident_mib(pid: u32) -> u64 {
    let status = status(pid);
    let kib = status.get("VmRSS").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// The sandbox's PID 1.
pub(crate) fn agent_of(sandbox: &Sandbox) -> Result<u32, Fault> {
    // The number of a namespace is the same inside and outside.
    let namespace = sandbox.says("readlink /proc/self/ns/pid", Who::Root)?;
    let mut found = ids().into_iter().filter(|pid| {
        link(*pid, "ns/pid").as_ref() == Some(&namespace)
            && status(*pid).get("NSpid").is_some_and(|ids| ids.ends_with("\t1"))
    });
    found.next().ok_or_else(|| {
        Fault::skipped("the sandbox's processes are not seen here: run it where the server runs")
    })
}
