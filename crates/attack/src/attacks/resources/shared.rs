//! What all sandboxes and the host have in common, and what one may take of it.

use std::time::Duration;

use super::neighbour_median;
use crate::{
    attack::{Outcome, Who, hold},
    field::Field,
    host,
    sandbox::Launch,
};

pub(super) fn output_flood(field: &Field<'_>) -> Outcome {
    let (sandbox, server) = (field.fresh()?, field.ground.server);
    let agent = host::agent_of(&sandbox)?;
    let before = (host::resident_mib(server), host::resident_mib(agent));
    // Nobody reads what they say.
    let floods: Vec<_> = (0..4)
        .map(|_| sandbox.start(&Launch::new("yes", &[], Who::User)))
        .collect::<Result<_, _>>()?;
    field.rest(Duration::from_secs(3))?;
    let after = (host::resident_mib(server), host::resident_mib(agent));
    let grown = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    hold!(grown.0 < 32, "the server grew by {} MiB", grown.0);
    hold!(grown.1 < 32, "the agent grew by {} MiB", grown.1);
    hold!(sandbox.is_well(), "the sandbox does not answer any more");
    for flood in floods {
        flood.leave();
    }
    Ok(format!("4 floods: the server grew by {} MiB, the agent by {}", grown.0, grown.1))
}

pub(super) fn processors(field: &Field<'_>) -> Outcome {
    let sandbox = field.fresh()?;
    let cpus = field.about(&sandbox)?["cpuCount"].as_u64().unwrap_or(1);
    let quiet = neighbour_median(field)?;
    let workers = (2 * cpus).max(4).to_string();
    let program = include_str!("../../../programs/burn.py");
    let burning = sandbox.launch(program, &[&workers], Who::User, Duration::from_secs(30))?;
    sandbox.await_file("/tmp/burning", Duration::from_secs(10))?;
    field.rest(Duration::from_millis(300))?;
    let beside = neighbour_median(field)?;
    let used: f64 = burning.wait()?.said().parse().unwrap_or(f64::MAX);
    hold!(used <= cpus as f64 * 1.15, "{used:.2} processors were had of {cpus}");
    let most = (quiet * 10).max(Duration::from_millis(500));
    hold!(beside < most, "the neighbour's commands take {beside:?}, {quiet:?} before");
    Ok(format!(
        "{used:.2} processors of {cpus}; neighbour {} ms (before: {} ms)",
        beside.as_millis(),
        quiet.as_millis()
    ))
}

fn setting(name: &str) -> u64 {
    host::number(format!("/proc/sys/{name}")).unwrap_or(0)
}

pub(super) fn hoard(field: &Field<'_>, who: Who) -> Outcome {
    let (attacker, neighbour) = (field.fresh()?, field.neighbour()?);
    let (contexts, terminals) = (setting("fs/aio-nr"), setting("kernel/pty/nr"));
    let program = include_str!("../../../programs/hoard.py");
    let hoarding = attacker.launch(program, &[], who, Duration::from_secs(30))?;
    attacker.await_file("/tmp/hoarded", Duration::from_secs(20))?;
    let modest = neighbour.finds(include_str!("../../../programs/modest.py"), &[], Who::User)?;
    let contexts = setting("fs/aio-nr").saturating_sub(contexts);
    let terminals = setting("kernel/pty/nr").saturating_sub(terminals);
    let queued = host::status(std::process::id()).remove("SigQ").unwrap_or_default();
    let watch = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC);
    hoarding.leave();
    let missing: Vec<_> =
        modest.as_object().into_iter().flatten().filter(|(_, got)| **got != true).collect();
    hold!(missing.is_empty(), "the neighbour gets no {missing:?}");
    hold!(contexts < setting("fs/aio-max-nr") / 10, "{contexts} contexts of the machine are taken");
    hold!(
        terminals < setting("kernel/pty/max") / 10,
        "{terminals} terminals of the machine are taken"
    );
    let (taken, allowed) = queued.split_once('/').unwrap_or(("0", "1"));
    let (taken, allowed): (u64, u64) =
        (taken.parse().unwrap_or(0), allowed.parse().unwrap_or(u64::MAX));
    hold!(taken < allowed / 10, "timers of the sandbox count against the host's root: {queued}");
    hold!(watch.is_ok(), "the host's root has no inotify instance left");
    hold!(attacker.is_well(), "the sandbox does not answer any more");
    Ok(format!("{terminals} of the machine's terminals, no contexts; the neighbour has its own"))
}

pub(super) fn descriptors(field: &Field<'_>, who: Who) -> Outcome {
    let sandbox = field.fresh()?;
    let files = || setting("fs/file-nr");
    let before = files();
    let found = sandbox.finds(include_str!("../../../programs/descriptors.py"), &[], who)?;
    hold!(
        found["end"] == "EMFILE" || found["end"] == "ENFILE",
        "opening ended with {}",
        found["end"]
    );
    let carried = found["carried"].as_str().unwrap_or_default();
    let bounded = ["ETOOMANYREFS", "EMFILE", "carried"].contains(&carried);
    hold!(bounded, "sockets that carry sockets end with {carried}");
    field.neighbour_answers(Duration::from_secs(5))?;
    let back = field.until(Duration::from_secs(10), || files().saturating_sub(before) < 5000)?;
    hold!(back, "{} files stay open on the host", files() - before);
    Ok(format!("{} files, then EMFILE; {carried}; all closed with the program", found["opened"]))
}
