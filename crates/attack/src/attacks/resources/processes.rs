//! Processes without end, and processes that do not want to end.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{api_answers, neighbour_median};
use crate::{
    attack::{Outcome, Who, hold},
    field::Field,
    host,
    sandbox::Launch,
};

pub(super) fn fork_bomb(field: &Field<'_>) -> Outcome {
    let bomb = field.fresh()?;
    let agent = host::agent_of(&bomb)?;
    // Looking at the processes themselves would wait for their locks, as `ps` does.
    let current = host::cgroup_file(agent, ("pids", "pids.current"), "pids.current")?;
    let most = host::number(current.with_file_name("pids.max"));
    let quiet = neighbour_median(field)?;
    let program = include_str!("../../../programs/bomb.py");
    let bombing = bomb.launch(program, &[], Who::User, Duration::from_secs(60))?;
    let count = || host::number(&current).unwrap_or(0);
    field.until(Duration::from_secs(10), || Some(count()) == most)?;
    field.rest(Duration::from_secs(1))?;
    let inside = count();
    hold!(inside > 100, "only {inside} processes came to be");
    hold!(most.is_some_and(|most| inside <= most), "{inside} processes of {most:?}");
    let api = api_answers(field, &format!("/sandboxes/{}", bomb.id()), Duration::from_millis(250))?;
    let beside = neighbour_median(field)?;
    hold!(beside < Duration::from_secs(2), "the neighbour's commands take {beside:?}");
    let began = Instant::now();
    hold!(field.kill(&bomb)?, "the sandbox could not be killed");
    let killed = began.elapsed();
    bombing.leave();
    hold!(killed < Duration::from_secs(25), "the kill took {killed:?}");
    let gone = field.until(Duration::from_secs(15), || !current.exists())?;
    hold!(gone, "processes are left on the host");
    Ok(format!(
        "{inside} processes; API {} ms, neighbour {} ms (before: {} ms), kill {} ms",
        api.as_millis(),
        beside.as_millis(),
        quiet.as_millis(),
        killed.as_millis()
    ))
}

pub(super) fn threads(field: &Field<'_>, who: Who) -> Outcome {
    let sandbox = field.fresh()?;
    let found = sandbox.finds(include_str!("../../../programs/threads.py"), &[], who)?;
    let threads = found["threads"].as_u64().unwrap_or(0);
    hold!((10..=1100).contains(&threads), "{threads} threads");
    hold!(found["fork"] == "EAGAIN", "a fork beside them: {}", found["fork"]);
    Ok(format!("{threads} threads, then EAGAIN"))
}

fn mark() -> String {
    format!("{}", 100_000_000 + rand::random::<u32>() % 800_000_000)
}

pub(super) fn hiding(field: &Field<'_>, who: Who) -> Outcome {
    let sandbox = field.fresh()?;
    let agent = host::agent_of(&sandbox)?;
    let mark = mark();
    let program = include_str!("../../../programs/hide.py");
    sandbox.launch(program, &[&mark], who, Duration::from_secs(20))?.leave();
    let line = format!("sleep {mark}");
    let hidden = field.until(Duration::from_secs(10), || host::named(&line).len() >= 5)?;
    hold!(hidden, "the processes are not seen on the host: {:?}", host::named(&line));
    let groups = host::cgroups(agent);
    field.kill(&sandbox)?;
    let gone = field.until(Duration::from_secs(5), || {
        host::named(&line).is_empty() && !host::is_there(agent)
    })?;
    hold!(gone, "they outlive the sandbox: {:?}", host::named(&line));
    let left = groups.values().find(|group| {
        let members = host::text(group.join("cgroup.procs"));
        group.to_string_lossy().contains("soulbox")
            && members.lines().any(|pid| pid == agent.to_string())
    });
    hold!(left.is_none(), "the agent is still in {left:?}");
    Ok("none outlives the sandbox".into())
}

pub(super) fn command_limit(field: &Field<'_>) -> Outcome {
    let sandbox = field.fresh()?;
    let mark = mark();
    let line =
        format!("trap '' TERM INT HUP; sleep {mark} & sleep {mark}; sleep {mark}; echo outlived");
    let launch = Launch {
        limit: Duration::from_secs(1),
        ..Launch::new("/bin/sh", &["-c", &line], Who::User)
    };
    let began = Instant::now();
    let output = sandbox.run(&launch);
    hold!(began.elapsed() < Duration::from_secs(8), "the command took {:?}", began.elapsed());
    let said = output.map(|output| output.stdout).unwrap_or_default();
    hold!(!said.contains("outlived"), "the command outlived its limit");
    hold!(sandbox.is_well(), "the sandbox does not answer any more");
    // The client hears of the end before the last of the killed processes is gone.
    let gone = field.until(Duration::from_secs(5), || {
        // The look itself is one such shell.
        sandbox.says("pgrep -c -f 'trap .. TERM' || true", Who::Root).is_ok_and(|shells| {
            shells.lines().last().is_some_and(|n| n.parse().is_ok_and(|n: u32| n <= 1))
        })
    })?;
    hold!(gone, "the shell runs on");
    Ok("killed at its limit".into())
}

pub(super) fn api_hoard(field: &Field<'_>) -> Outcome {
    let sandbox = field.fresh()?;
    let (server, agent) = (field.ground.server, host::agent_of(&sandbox)?);
    let before = host::resident_mib(server);
    let mut counts = Vec::new();
    let sleep = Launch::new("sleep", &["600"], Who::User);
    let terminal = Launch { terminal: Some((24, 80)), ..sleep.clone() };
    for (kind, launch, most) in [("terminals", &terminal, 200), ("processes", &sleep, 700)] {
        let mut made = 0;
        while made < most {
            field.check()?;
            let Ok(running) = sandbox.start(launch) else { break };
            running.leave();
            made += 1;
        }
        hold!(made < most, "{made} {kind} could be started");
        counts.push(format!("{made} {kind}"));
        field.neighbour_answers(Duration::from_secs(5))?;
        if kind == "terminals" {
            sandbox.shell("pkill -KILL sleep", Who::Root)?;
        }
    }
    let path = json!({"path": "/tmp", "recursive": false});
    let (mut watchers, mut refused) = (0, 0);
    while watchers < 2000 {
        field.check()?;
        let answer = sandbox.call("/filesystem.Filesystem/CreateWatcher", &path)?;
        if answer.status != 200 {
            refused = answer.status;
            break;
        }
        watchers += 1;
    }
    hold!(watchers < 2000, "{watchers} watchers could be made");
    counts.push(format!("{watchers} watchers (then {refused})"));
    let grown = host::resident_mib(server).saturating_sub(before);
    hold!(grown < 64, "the server grew by {grown} MiB");
    hold!(host::is_there(agent), "the agent did not outlive it");
    let read = sandbox.read("/etc/passwd", Who::User)?;
    hold!(read.status == 200, "a file is answered {} {}", read.status, read.text());
    let about = field.about(&sandbox)?;
    hold!(about["state"] == "running", "the sandbox is {}", about["state"]);
    let began = Instant::now();
    hold!(field.kill(&sandbox)?, "the sandbox could not be killed");
    hold!(began.elapsed() < Duration::from_secs(25), "the kill took {:?}", began.elapsed());
    Ok(counts.join(", "))
}
