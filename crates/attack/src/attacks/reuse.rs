//! What one sandbox leaves for the next.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::json;

use crate::{
    attack::{Attack, Group::Reuse, How, Outcome, Who, hold},
    field::{Field, unique},
    host,
    sandbox::Launch,
};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "reuse-traces",
        group: Reuse,
        title: "files, attributes, users, processes, sockets, IPC, memory planted in a sandbox, sought in the next 24",
        defence: "nothing is reused but number ranges: namespaces, cgroups, layer and process are made anew",
        remains: "",
        how: How::Once(traces),
    },
    Attack {
        id: "reuse-limits",
        group: Reuse,
        title: "limits, use and counters of a sandbox that exhausted its own, seen in the next ones",
        defence: "a cgroup per sandbox, removed with it",
        remains: "",
        how: How::Once(limits),
    },
    Attack {
        id: "reuse-leftovers",
        group: Reuse,
        title: "mounts, cgroups, processes, descriptors and loop devices after 20 killed sandboxes",
        defence: "an undo for each stage of a start, done in the background, and a sweep at every start",
        remains: "",
        how: How::Once(leftovers),
    },
];

/// More than are kept ready, so that some are made after the attacker's end.
const NEXT: usize = 24;

fn first_id(sandbox: &crate::sandbox::Sandbox) -> Result<String, crate::attack::Fault> {
    let map = host::text(format!("/proc/{}/uid_map", host::agent_of(sandbox)?));
    Ok(map.split_whitespace().nth(1).unwrap_or_default().to_owned())
}

fn traces(field: &Field<'_>) -> Outcome {
    let mark = unique("honeypot");
    let clean = field.fresh()?.finds(
        include_str!("../../programs/search.py"),
        &["no", &mark],
        Who::Root,
    )?;
    let attacker = field.fresh_with(json!({"envVars": {"MARK": mark}, "metadata": {"m": mark}}))?;
    let (ids, agent) = (first_id(&attacker)?, host::agent_of(&attacker)?);
    let program = include_str!("../../programs/plant.py");
    let planting = attacker.launch(program, &[&mark], Who::Root, Duration::from_secs(120))?;
    attacker.await_file("/home/user/fill", Duration::from_secs(10))?;
    field.rest(Duration::from_millis(400))?;
    // What is not found here would not be found there.
    let (a, b) = mark.split_at(8);
    let search = include_str!("../../programs/search.py");
    let here = attacker.finds(search, &[a, b], Who::Root)?;
    let planted = here["found"].as_array().map_or(0, Vec::len);
    hold!(planted > 20, "only {planted} traces could be planted: {}", here["found"]);
    planting.leave();
    field.kill(&attacker)?;
    let gone = field.until(Duration::from_secs(10), || !host::is_there(agent))?;
    hold!(gone, "the attacker's agent runs on");
    let mut same_ids = 0;
    for number in 0..NEXT {
        let next = field.fresh()?;
        same_ids += usize::from(first_id(&next)? == ids);
        let found = next.finds(search, &[a, b], Who::Root)?;
        hold!(found["found"] == json!([]), "sandbox {number} after it has {}", found["found"]);
        hold!(found["environment"] == json!({}), "sandbox {number}: {}", found["environment"]);
        hold!(found["modes"] == clean["modes"], "sandbox {number}: modes {}", found["modes"]);
        hold!(
            found["processes"] == clean["processes"],
            "sandbox {number}: {} processes",
            found["processes"]
        );
        if number % 2 == 1 {
            field.kill(&next)?;
        }
    }
    Ok(format!(
        "{planted} traces, none in the next {NEXT} sandboxes, {same_ids} of them with the same ids"
    ))
}

fn limits(field: &Field<'_>) -> Outcome {
    let worn = field.fresh()?;
    let hog = "import time\na = []\nfor _ in range(400):\n    a.append(bytearray(1 << 20))\nprint('held')";
    worn.run(&Launch::new("python3", &["-c", hog], Who::Root))?;
    worn.shell("for n in $(seq 100); do sleep 60 >/dev/null 2>&1 & done; true", Who::Root)?;
    let expected = limits_of(&worn)?;
    field.kill(&worn)?;
    for number in 0..12 {
        let next = field.fresh()?;
        let found = limits_of(&next)?;
        hold!(found == expected, "sandbox {number} has {found:?}, the one before {expected:?}");
        let agent = host::agent_of(&next)?;
        let used = host::cgroup_file(agent, ("memory", "memory.usage_in_bytes"), "memory.current")?;
        let used = host::number(used).unwrap_or(u64::MAX);
        hold!(used < 64 << 20, "sandbox {number} begins with {used} bytes of memory");
        let count = host::cgroup_file(agent, ("pids", "pids.current"), "pids.current")?;
        let count = host::number(count).unwrap_or(u64::MAX);
        hold!(count < 10, "sandbox {number} begins with {count} processes");
        field.kill(&next)?;
    }
    Ok(format!("the next 12 begin at zero, with {expected:?}"))
}

fn limits_of(
    sandbox: &crate::sandbox::Sandbox,
) -> Result<BTreeMap<&'static str, String>, crate::attack::Fault> {
    let agent = host::agent_of(sandbox)?;
    let mut found = BTreeMap::new();
    for (controller, v1, v2) in [
        ("memory", "memory.limit_in_bytes", "memory.max"),
        ("pids", "pids.max", "pids.max"),
        ("cpu", "cpu.cfs_quota_us", "cpu.max"),
    ] {
        let text = host::text(host::cgroup_file(agent, (controller, v1), v2)?);
        found.insert(v2, text.trim().to_owned());
    }
    Ok(found)
}

/// Counts of everything that sandboxes of one server may leave behind.
fn footprint(field: &Field<'_>) -> BTreeMap<&'static str, usize> {
    let data_dir = field.ground.data_dir.to_string_lossy().into_owned();
    let instance = host::text(field.ground.data_dir.join("instance"));
    let groups = groups(instance.trim());
    let server = field.ground.server;
    let held: Vec<String> = fs::read_dir(format!("/proc/{server}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    let held = |start: &str| held.iter().filter(|link| link.starts_with(start)).count();
    let mounts = host::text(format!("/proc/{server}/mountinfo"));
    BTreeMap::from([
        ("cgroups", groups.len()),
        ("processes", processes(&groups)),
        ("network namespaces", held("net:")),
        ("user namespaces", held("user:")),
        ("process handles", held("anon_inode:[pidfd]") + held("pidfd:")),
        ("mounts", mounts.lines().filter(|line| line.contains(&data_dir)).count()),
        (
            "layers",
            fs::read_dir(field.ground.data_dir.join("store/layers")).map_or(0, Iterator::count),
        ),
        ("sockets", fs::read_dir(field.ground.data_dir.join("sockets")).map_or(0, Iterator::count)),
    ])
}

/// The same, when it has not changed for a while.
fn footprint_at_rest(
    field: &Field<'_>,
) -> Result<BTreeMap<&'static str, usize>, crate::attack::Fault> {
    let mut found = footprint(field);
    for _ in 0..10 {
        let before = found;
        field.rest(Duration::from_millis(1500))?;
        found = footprint(field);
        if found == before {
            break;
        }
    }
    Ok(found)
}

fn processes(groups: &[std::path::PathBuf]) -> usize {
    let members = groups.iter().flat_map(|dir| {
        let text = host::text(dir.join("cgroup.procs"));
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    members.collect::<std::collections::BTreeSet<_>>().len()
}

/// The server's cgroups in each hierarchy.
fn groups(instance: &str) -> Vec<std::path::PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = std::iter::once(root.to_owned())
        .chain(hierarchies)
        .map(|dir| dir.join("soulbox").join(instance))
        .filter(|dir| dir.is_dir())
        .collect();
    let mut at = 0;
    while let Some(dir) = found.get(at).cloned() {
        let below = fs::read_dir(dir).into_iter().flatten().flatten();
        found.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
        at += 1;
    }
    found
}

fn leftovers(field: &Field<'_>) -> Outcome {
    const KILLED: usize = 20;
    field.shared()?;
    // The first ones fill what is kept ready.
    field.kill(&field.fresh()?)?;
    field.rest(Duration::from_secs(2))?;
    let before = footprint_at_rest(field)?;
    for number in 0..KILLED {
        let sandbox = field.fresh()?;
        sandbox.shell(
            "sleep 60 >/dev/null 2>&1 & mkdir -p /tmp/a/b; echo x > /tmp/a/b/c",
            Who::User,
        )?;
        if number % 3 == 0 {
            sandbox.start(&Launch::new("/bin/sh", &["-c", "sleep 60"], Who::Root))?.leave();
        }
        field.kill(&sandbox)?;
    }
    let mut after = BTreeMap::new();
    let same = field.until(Duration::from_secs(15), || {
        after = footprint(field);
        after == before
    })?;
    hold!(same, "before {before:?}, after {after:?}");
    Ok(format!("{before:?} before and after"))
}
