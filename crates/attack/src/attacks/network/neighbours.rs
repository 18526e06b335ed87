//! Other sandboxes of the same host.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    attack::{Fault, Outcome, Who, hold},
    field::{Field, unique},
    host,
    sandbox::Sandbox,
};

pub(super) fn neighbours(field: &Field<'_>) -> Outcome {
    let (attacker, victim) = (field.fresh()?, field.fresh()?);
    let listening = include_str!("../../../programs/listening.py");
    let listening = victim.launch(listening, &["20"], Who::User, Duration::from_secs(40))?;
    victim.await_file("/tmp/listening", Duration::from_secs(10))?;
    let mark = unique("forged");
    let overhear = include_str!("../../../programs/overhear.py");
    let found = attacker.finds(overhear, &["3", &mark], Who::Root)?;
    listening.leave();
    let met = victim.says("cat /tmp/met", Who::User)?;
    hold!(met.is_empty(), "arrived at the other sandbox: {met}");
    hold!(found["heard"] == serde_json::json!([]), "overheard: {}", found["heard"]);
    hold!(found["interfaces"] == serde_json::json!(["lo"]), "links: {}", found["interfaces"]);
    hold!(found["refused"]["packet"].is_string(), "packet sockets can be opened");
    let sent = found["sent"].as_u64().unwrap_or(0);
    hold!(sent > 50, "only {sent} packets could be sent");
    Ok(format!("{sent} forged packets and broadcasts, none arrived and nothing was overheard"))
}

/// How long a sandbox's own way out takes to say no.
fn refusal(sandbox: &Sandbox) -> Result<Duration, Fault> {
    let program = include_str!("../../../programs/reach.py");
    let began = Instant::now();
    let found = sandbox.finds(program, &["169.254.169.254|80"], Who::User)?;
    hold!(found["refused"] == 1, "the neighbour's connection was not answered: {found}");
    Ok(began.elapsed())
}

fn descriptors(server: u32) -> usize {
    fs::read_dir(format!("/proc/{server}/fd")).map_or(0, Iterator::count)
}

pub(super) fn floods(field: &Field<'_>) -> Outcome {
    let (neighbour, server) = (field.neighbour()?, field.ground.server);
    let rules =
        serde_json::json!({"network": {"allowOut": ["allowed.example"], "denyOut": ["0.0.0.0/0"]}});
    let attacker = field.fresh_with(rules)?;
    let quiet = refusal(&neighbour)?.max(refusal(&neighbour)?);
    let before = (descriptors(server), host::resident_mib(server));
    let program = include_str!("../../../programs/flood.py");
    let flood =
        attacker.launch(program, &["8", "93.184.216.34"], Who::User, Duration::from_secs(40))?;
    attacker.await_file("/tmp/flooding", Duration::from_secs(10))?;
    field.rest(Duration::from_secs(1))?;
    let mut taken = Vec::new();
    for _ in 0..5 {
        taken.push(refusal(&neighbour)?);
        field.neighbour_answers(Duration::from_secs(5))?;
    }
    taken.sort_unstable();
    let usual = taken[taken.len() / 2];
    let during = (descriptors(server), host::resident_mib(server));
    let said: serde_json::Value = serde_json::from_str(flood.wait()?.said())?;
    let held = said["held"].as_u64().unwrap_or(0);
    hold!(held > 1000, "only {held} connections could be opened");
    let most = (quiet * 10).max(Duration::from_secs(2));
    hold!(usual < most, "the neighbour's way out takes {usual:?}, {quiet:?} before");
    let taken = during.0.saturating_sub(before.0);
    hold!(taken < 2200, "the server holds {taken} more descriptors");
    let grown = during.1.saturating_sub(before.1);
    hold!(grown < 96, "the server grew by {grown} MiB");
    field.kill(&attacker)?;
    let freed = || descriptors(server) < before.0 + 64;
    let back = field.until(Duration::from_secs(15), freed)?;
    hold!(back, "{} descriptors stay, {} before", descriptors(server), before.0);
    Ok(format!(
        "{held} connections and {} questions: neighbour {} ms (before: {} ms), server + {grown} MiB",
        said["asked"],
        usual.as_millis(),
        quiet.as_millis()
    ))
}
