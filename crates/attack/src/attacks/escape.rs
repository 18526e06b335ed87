//! Out of the namespaces: executables, descriptors, processes, directories.

use std::{
    fs,
    os::unix::fs::FileTypeExt as _,
    time::{Duration, Instant},
};

use super::strangers;
use crate::{
    attack::{Attack, Group::Kernel, How, Outcome, Who, hold},
    field::Field,
    host,
    sandbox::Launch,
};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "kernel-exe-overwrite",
        group: Kernel,
        title: "runc CVE-2019-5736: the agent's executable opened for writing through `/proc/*/exe`",
        defence: "the agent runs from a sealed memfd and is not dumpable",
        remains: "",
        how: How::Each(exe_overwrite),
    },
    Attack {
        id: "kernel-exe-interpreter",
        group: Kernel,
        title: "the other half of CVE-2019-5736: a program whose interpreter is `/proc/self/exe`",
        defence: "the agent's file is a sealed memfd of mode 0555, whose owner is nobody inside",
        remains: "hostile code can run a copy of the agent, with its own rights",
        how: How::Once(exe_interpreter),
    },
    Attack {
        id: "kernel-leaked-directory",
        group: Kernel,
        title: "runc CVE-2024-21626: a working directory that is a leaked descriptor of the host's tree",
        defence: "every descriptor closes on exec; the old root is unmounted before hostile code runs",
        remains: "",
        how: How::Each(leaked_directory),
    },
    Attack {
        id: "kernel-inherited-descriptors",
        group: Kernel,
        title: "descriptors beside the standard three in a new program",
        defence: "`close_range` before exec, here and at the start of the agent",
        remains: "",
        how: How::Each(inherited_descriptors),
    },
    Attack {
        id: "kernel-masks",
        group: Kernel,
        title: "runc CVE-2025-31133, -52565, -52881: masks of `/proc` taken off, moved, linked over",
        defence: "masks are mounts of the null device, attached by descriptor before the root is hostile",
        remains: "",
        how: How::Once(masks),
    },
    Attack {
        id: "kernel-cgroups",
        group: Kernel,
        title: "cgroup version 1 release_agent; a cgroup hierarchy mounted anew",
        defence: "no cgroup file system inside; cgroup namespace; no mount call",
        remains: "",
        how: How::Each(cgroups),
    },
    Attack {
        id: "kernel-settings",
        group: Kernel,
        title: "every file of `/proc` and `/sys` opened for writing: sysrq, core_pattern, modprobe, …",
        defence: "read-only `/proc/sys`; `/sys` of our own; masks",
        remains: "",
        how: How::Each(settings),
    },
    Attack {
        id: "kernel-device-nodes",
        group: Kernel,
        title: "device files of the host's disks and memory, made wherever one may write",
        defence: "user namespace; `nodev` on every mount but `/dev`",
        remains: "",
        how: How::Each(device_nodes),
    },
    Attack {
        id: "kernel-foreign-processes",
        group: Kernel,
        title: "setns, pidfd_getfd, process_vm_readv, ptrace and kcmp on the agent and on the host",
        defence: "pid namespace; the agent is not dumpable; no `CAP_SYS_PTRACE`",
        remains: "",
        how: How::Each(foreign_processes),
    },
    Attack {
        id: "kernel-chroot",
        group: Kernel,
        title: "out of a changed root while a directory above is held, then upwards",
        defence: "`pivot_root` into the sandbox's own root; nothing lies above it",
        remains: "",
        how: How::Once(chroot),
    },
    Attack {
        id: "kernel-proc-of-the-agent",
        group: Kernel,
        title: "`/proc/1/root`, `cwd`, `fd`, `environ`, `mem`, and the same of its threads",
        defence: "the agent is not dumpable: its files in `/proc` are nobody's",
        remains: "",
        how: How::Each(proc_of_the_agent),
    },
    Attack {
        id: "kernel-proc-of-others",
        group: Kernel,
        title: "the ordinary user reads memory, environment and descriptors of root's processes",
        defence: "the kernel's ptrace rules between users",
        remains: "command lines are seen by all users of a sandbox, as on any Linux; `user` may become root by `sudo` anyway",
        how: How::Once(proc_of_others),
    },
    Attack {
        id: "kernel-signals",
        group: Kernel,
        title: "every signal to PID 1, thousands of times, and `kill -KILL -1`",
        defence: "the kernel drops signals for which PID 1 has no handler; it keeps none for faults",
        remains: "",
        how: How::Once(signals),
    },
    Attack {
        id: "kernel-crippled-agent",
        group: Kernel,
        title: "root inside takes the agent's limits, priority and processors away",
        defence: "ending a sandbox needs no help of its agent",
        remains: "root inside can make its own sandbox useless",
        how: How::Once(crippled_agent),
    },
];

fn exe_overwrite(field: &Field<'_>, who: Who) -> Outcome {
    let (shared, neighbour) = (field.shared()?, field.neighbour()?);
    let ours = format!("/proc/{}/exe", host::agent_of(&shared)?);
    let theirs = format!("/proc/{}/exe", host::agent_of(&neighbour)?);
    let before = fs::read(&ours)?;
    hold!(before == fs::read(&theirs)?, "agents of one server differ");
    let limit = Duration::from_secs(20);
    let program = include_str!("../../programs/exe_overwrite.py");
    let running = shared.launch(program, &[], who, limit)?;
    // What it watches for: the agent in the moment in which it becomes another program.
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        shared.shell("true", who)?;
    }
    let found: serde_json::Value = serde_json::from_str(running.wait()?.said())?;
    hold!(found["direct"] == serde_json::json!(["EACCES"]), "/proc/1/exe: {}", found["direct"]);
    hold!(found["held"] == serde_json::json!([]), "the agent's file was open: {}", found["held"]);
    let seen = found["seen"].as_u64().unwrap_or(0);
    hold!(seen > 100, "the program saw {seen} processes only");
    hold!(fs::read(&ours)? == before, "the agent's file changed");
    hold!(fs::read(&theirs)? == before, "the neighbour's agent changed");
    Ok(format!("EACCES; {seen} looks at other processes, none at the agent's file"))
}

fn exe_interpreter(field: &Field<'_>) -> Outcome {
    let (shared, neighbour) = (field.shared()?, field.neighbour()?);
    let theirs = format!("/proc/{}/exe", host::agent_of(&neighbour)?);
    let before = fs::read(&theirs)?;
    let line = "printf '#!/proc/self/exe\\n' > /tmp/evil && chmod 755 /tmp/evil";
    shared.shell(line, Who::Root)?;
    let program = include_str!("../../programs/exe_interpreter.py");
    let watching = shared.launch(program, &[], Who::Root, Duration::from_secs(20))?;
    let end = Instant::now() + Duration::from_millis(1500);
    let mut started = 0;
    while Instant::now() < end {
        // The agent starts it by itself, so that the link means the agent.
        if let Ok(running) = shared.start(&Launch::new("/tmp/evil", &[], Who::Root)) {
            started += 1;
            // It says that it does not know what to do.
            let _ = running.wait();
        }
    }
    let found: serde_json::Value = serde_json::from_str(watching.wait()?.said())?;
    let wrong = strangers(&found["opened"], &["EACCES", "EPERM", "ETXTBSY", "ENOENT", "ESRCH"]);
    hold!(wrong.is_empty(), "the agent's file was opened for writing: {wrong:?}");
    hold!(found["written"] == serde_json::json!([]), "the agent's file was written: {found}");
    hold!(fs::read(&theirs)? == before, "the neighbour's agent changed");
    hold!(shared.is_well() && neighbour.is_well(), "a sandbox does not answer any more");
    let caught = found["caught"].as_u64().unwrap_or(0);
    Ok(format!("started {started} times, caught {caught} times, never writable"))
}

fn leaked_directory(field: &Field<'_>, who: Who) -> Outcome {
    let shared = field.shared()?;
    let root = shared.says("stat -c %d:%i /", who)?;
    let line = "pwd -P; stat -c %d:%i ../../../../../../../..";
    let tried = (3..40).step_by(3).flat_map(|fd| {
        [format!("/proc/self/fd/{fd}"), format!("/proc/1/fd/{fd}"), format!("/dev/fd/{fd}")]
    });
    let tried = tried.chain(["/proc/1/root".to_owned(), "/proc/1/cwd".to_owned()]);
    let mut count = 0;
    for cwd in tried {
        count += 1;
        let launch = Launch { cwd: Some(&cwd), ..Launch::new("/bin/sh", &["-c", line], who) };
        // Refused is as good as it gets.
        let Ok(running) = shared.start(&launch) else { continue };
        let output = running.wait()?;
        let at = output.said().lines().last().unwrap_or_default();
        hold!(output.code != 0 || at == root, "{cwd} led outside: {}", output.said());
    }
    Ok(format!("{count} directories, none leads out of the root"))
}

fn inherited_descriptors(field: &Field<'_>, who: Who) -> Outcome {
    let shared = field.shared()?;
    let listing = "ls /proc/self/fd | sort -n | tr '\\n' ' '";
    let plain = shared.says(listing, who)?;
    // The fourth is that of `ls` on the directory.
    hold!(plain == "0 1 2 3", "a command has descriptors {plain}");
    let terminal = Launch {
        terminal: Some((24, 80)),
        ..Launch::new("/bin/sh", &["-c", "ls /proc/self/fd > /tmp/terminal-fds"], who)
    };
    shared.shell("rm -f /tmp/terminal-fds", Who::Root)?;
    shared.run(&terminal)?;
    let behind = shared
        .says("sort -n /tmp/terminal-fds | tr '\\n' ' '; rm -f /tmp/terminal-fds", Who::Root)?;
    hold!(behind == "0 1 2 3", "a command at a terminal has descriptors {behind}");
    Ok("the standard three, also at a terminal".into())
}

fn masks(field: &Field<'_>) -> Outcome {
    let found = field.shared()?.finds(include_str!("../../programs/masks.py"), &[], Who::Root)?;
    let masks = found["masks"].as_object().cloned().unwrap_or_default();
    hold!(masks.len() > 5, "only these masks were found: {masks:?}");
    for (name, mask) in &masks {
        hold!(mask["null"] == true, "/proc/{name} is no null device");
        let refused = ["EPERM", "EBUSY", "EROFS", "EACCES", "EXDEV", "EEXIST", "ENOENT"];
        let wrong = strangers(&mask["tries"], &refused);
        hold!(
            wrong.is_empty() && !mask["tries"].to_string().contains("null"),
            "/proc/{name}: {mask}"
        );
    }
    let wrong = strangers(&found["devices"], &["EROFS", "EPERM", "EBUSY"]);
    hold!(wrong.is_empty() && !found["devices"].to_string().contains("null"), "/dev: {found}");
    hold!(found["console"] == false, "/dev/console exists");
    Ok(format!("{} masks stay", masks.len()))
}

fn cgroups(field: &Field<'_>, who: Who) -> Outcome {
    let shared = field.shared()?;
    let agent = host::agent_of(&shared)?;
    let before = host::cgroups(agent);
    let found = shared.finds(include_str!("../../programs/cgroups.py"), &[], who)?;
    let wrong = strangers(&found["mounts"], &["EPERM"]);
    hold!(wrong.is_empty(), "mounting a hierarchy: {wrong:?}");
    hold!(found["found"] == serde_json::json!([]), "control files inside: {}", found["found"]);
    let hierarchies = &found["hierarchies"];
    hold!(*hierarchies == serde_json::json!([]), "hierarchies inside: {hierarchies}");
    let wrong = strangers(&found["limits"], &["EROFS", "EACCES"]);
    let limits = &found["limits"];
    hold!(wrong.is_empty() && !limits.to_string().contains("null"), "limits opened: {limits}");
    hold!(host::cgroups(agent) == before, "the agent's cgroups changed");
    let seen = shared.says("cut -d: -f3 /proc/self/cgroup | sort -u", who)?;
    hold!(seen == "/", "the path of the cgroup is seen: {seen}");
    Ok("no hierarchy, no control file, no path".into())
}

fn settings(field: &Field<'_>, who: Who) -> Outcome {
    let before = host::settings();
    let found = field.shared()?.finds(include_str!("../../programs/settings.py"), &[], who)?;
    hold!(found == serde_json::json!([]), "opened for writing: {found}");
    hold!(host::settings() == before, "settings of the host changed");
    Ok("nothing opens for writing".into())
}

fn device_nodes(field: &Field<'_>, who: Who) -> Outcome {
    use std::os::unix::fs::MetadataExt as _;
    let devices = fs::read_dir("/dev").into_iter().flatten().flatten();
    let disks = devices.filter_map(|entry| {
        let about = entry.metadata().ok()?;
        about.file_type().is_block_device().then(|| about.rdev().to_string())
    });
    let disks: Vec<String> = disks.take(6).collect();
    let disks: Vec<&str> = disks.iter().map(String::as_str).collect();
    let program = include_str!("../../programs/device_nodes.py");
    let found = field.shared()?.finds(program, &disks, who)?;
    hold!(found == serde_json::json!([]), "{found}");
    Ok("no device file can be made, and none would work".into())
}

fn foreign_processes(field: &Field<'_>, who: Who) -> Outcome {
    let shared = field.shared()?;
    let outside = [field.ground.server, host::agent_of(&shared)?, std::process::id()];
    let outside = outside.map(|pid| pid.to_string());
    let outside: Vec<&str> = outside.iter().map(String::as_str).collect();
    let found = shared.finds(include_str!("../../programs/handles.py"), &outside, who)?;
    let refused = ["EPERM", "EACCES", "ESRCH", "closed", "EBADF", "EINVAL", "ENOENT"];
    let all = found.as_object().cloned().unwrap_or_default();
    hold!(all.len() > 10, "only {} kinds were tried", all.len());
    for (name, results) in &all {
        let wrong = strangers(results, &refused);
        hold!(wrong.is_empty(), "{name}: {wrong:?}");
    }
    Ok(format!("{} kinds of handles refused", all.len()))
}

fn chroot(field: &Field<'_>) -> Outcome {
    let found = field.shared()?.finds(include_str!("../../programs/chroot.py"), &[], Who::Root)?;
    hold!(found["same"] == true && found["listing"] == true, "another root: {found}");
    hold!(found["pivot"] == "EPERM", "pivot_root answers {}", found["pivot"]);
    Ok("above the root is the root".into())
}

fn proc_of_the_agent(field: &Field<'_>, who: Who) -> Outcome {
    let found = field.shared()?.finds(include_str!("../../programs/proc_agent.py"), &[], who)?;
    let wrong = strangers(&found, &["EACCES", "EPERM", "ENOENT", "ESRCH"]);
    hold!(wrong.is_empty(), "the agent's files say {wrong:?}");
    Ok(format!("{found}"))
}

fn proc_of_others(field: &Field<'_>) -> Outcome {
    let shared = field.shared()?;
    let line = "SECRET=swordfish exec sleep 30";
    let victim = shared.start(&Launch::new("/bin/sh", &["-c", line], Who::Root))?;
    let pid = victim.pid.to_string();
    // Until it has become what it starts.
    field.rest(Duration::from_millis(100))?;
    let program = include_str!("../../programs/proc_others.py");
    let found = shared.finds(program, &[&pid], Who::User)?;
    shared.shell(&format!("kill -KILL {pid}"), Who::Root)?;
    victim.leave();
    let wrong = strangers(&found, &["EACCES", "EPERM"]);
    hold!(wrong.is_empty(), "root's process shows {found}");
    hold!(!found.to_string().contains("swordfish"), "root's environment is read");
    Ok("EACCES and EPERM throughout".into())
}

fn signals(field: &Field<'_>) -> Outcome {
    const SANDBOXES: usize = 12;
    // SIGCHLD, and the two that the C library keeps for its threads: their handlers return at once
    // unless the signal is of the very same process, which the kernel lets nobody else pretend.
    const NEEDED: u64 = 1 << 16 | 1 << 31 | 1 << 32;
    for _ in 0..SANDBOXES {
        let sandbox = field.fresh()?;
        let agent = host::agent_of(&sandbox)?;
        let caught = host::status(agent).remove("SigCgt").unwrap_or_default();
        // A handler of PID 1 is a door for signals from inside.
        let caught = u64::from_str_radix(&caught, 16).unwrap_or(u64::MAX);
        hold!(caught & !NEEDED == 0, "PID 1 has handlers for {caught:016x}");
        let sent = sandbox.python(include_str!("../../programs/signals.py"), &[], Who::Root);
        hold!(sent.is_ok(), "PID 1 did not outlive the signals: {sent:?}");
        // The shell that sends it ends too, and so does the answer.
        let _ = sandbox.shell("kill -STOP 1; kill -KILL -1; true", Who::Root);
        hold!(sandbox.is_well(), "the sandbox does not answer after the signals");
        hold!(host::agent_of(&sandbox)? == agent, "PID 1 is another process");
    }
    Ok(format!("PID 1 of {SANDBOXES} sandboxes outlived all of them"))
}

fn crippled_agent(field: &Field<'_>) -> Outcome {
    let sandbox = field.fresh()?;
    let agent = host::agent_of(&sandbox)?;
    let program = include_str!("../../programs/cripple.py");
    // The agent may not be able to tell any more how it ended.
    if let Ok(running) = sandbox.launch(program, &[], Who::Root, Duration::from_secs(10)) {
        let _ = running.wait();
    }
    field.neighbour_answers(Duration::from_secs(5))?;
    let began = Instant::now();
    field.kill(&sandbox)?;
    hold!(began.elapsed() < Duration::from_secs(25), "the kill took {:?}", began.elapsed());
    let gone = field.until(Duration::from_secs(15), || !host::is_there(agent))?;
    hold!(gone, "the agent runs on after the kill");
    hold!(field.fresh()?.is_well(), "the next sandbox does not work");
    Ok(format!("killed within {} ms", began.elapsed().as_millis()))
}
