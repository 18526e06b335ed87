//! Logs of sandboxes.

use std::{sync::atomic::Ordering, time::Duration};

use chrono::Utc;
use soulbox_control::{Direction, Level, LogQuery};
use soulbox_model::SandboxId;

use crate::world::{World, map, status};

fn forward() -> LogQuery {
    LogQuery { direction: Direction::Forward, ..LogQuery::default() }
}

async fn messages(world: &World, id: &SandboxId, query: LogQuery) -> Vec<String> {
    let lines = world.control.logs(world.team, id, query).await.unwrap();
    lines.into_iter().map(|line| line.message).collect()
}

#[tokio::test]
async fn the_agents_lines_stand_among_those_of_the_sandboxs_life() {
    let world = World::new().await;
    let made = world.create(600).await;
    let guest = world.machine.guest(&made.id).unwrap();
    let in_a_moment = Utc::now().timestamp_millis() + 1;
    guest.note(in_a_moment, "info", "process started");
    guest.note(in_a_moment, "warn", "disk is nearly full");
    let expected = ["sandbox created", "process started", "disk is nearly full"];
    assert_eq!(messages(&world, &made.id, forward()).await, expected);
    // Asked again, no line comes twice.
    guest.note(in_a_moment + 1, "info", "process ended");
    let lines = world.control.logs(world.team, &made.id, forward()).await.unwrap();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1].fields, map([("logger", "processSvc"), ("pid", "7")]));
    assert_eq!((lines[0].level, lines[2].level), (Level::Info, Level::Warn));
    let warnings = LogQuery { level: Some(Level::Warn), ..forward() };
    assert_eq!(messages(&world, &made.id, warnings).await, ["disk is nearly full"]);
}

#[tokio::test]
async fn the_log_of_an_ended_sandbox_is_kept() {
    let world = World::new().await;
    let made = world.create(600).await;
    let guest = world.machine.guest(&made.id).unwrap();
    guest.note(Utc::now().timestamp_millis() + 1, "info", "last words");
    tokio::time::sleep(Duration::from_millis(5)).await;
    world.control.kill(world.team, &made.id).await.unwrap();
    let expected = ["sandbox created", "last words", "sandbox ended: killed on request"];
    assert_eq!(messages(&world, &made.id, forward()).await, expected);
    let unknown = world.control.logs(world.team, &SandboxId::random(), forward()).await;
    assert_eq!(status(unknown), 404);
}

#[tokio::test]
async fn an_agent_that_does_not_answer_delays_but_does_not_block() {
    let world = World::new().await;
    let made = world.create(600).await;
    world.machine.faults.mute.store(true, Ordering::SeqCst);
    let started = std::time::Instant::now();
    assert_eq!(messages(&world, &made.id, forward()).await, ["sandbox created"]);
    assert!(started.elapsed() < Duration::from_secs(4));
    let started = std::time::Instant::now();
    world.control.kill(world.team, &made.id).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_agent_that_takes_no_connection_for_a_moment_is_tried_again() {
    let world = World::new().await;
    let made = world.create(600).await;
    let faults = &world.machine.faults;
    let note = |text| {
        let in_a_moment = Utc::now().timestamp_millis() + 1;
        world.machine.guest(&made.id).unwrap().note(in_a_moment, "info", text);
    };
    for (fault, text) in [(&faults.full, "after a full queue"), (&faults.cut, "after a reset")] {
        note(text);
        fault.store(1, Ordering::SeqCst);
        let asked = faults.asked.load(Ordering::SeqCst);
        let lines = messages(&world, &made.id, forward()).await;
        assert_eq!(lines.last().map(String::as_str), Some(text));
        let took = faults.asked.load(Ordering::SeqCst) - asked;
        assert_eq!(took, if text.contains("queue") { 1 } else { 2 });
    }
    // What will not be better the next time is not asked again.
    faults.babble.store(1, Ordering::SeqCst);
    let asked = faults.asked.load(Ordering::SeqCst);
    messages(&world, &made.id, forward()).await;
    assert_eq!(faults.asked.load(Ordering::SeqCst) - asked, 1);
}

#[tokio::test]
async fn an_agent_that_never_takes_a_connection_is_given_up_soon() {
    let world = World::new().await;
    let made = world.create(600).await;
    world.machine.faults.full.store(100, Ordering::SeqCst);
    let started = std::time::Instant::now();
    assert_eq!(messages(&world, &made.id, forward()).await, ["sandbox created"]);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(world.machine.faults.full.load(Ordering::SeqCst), 97);
}

#[tokio::test]
async fn a_restarted_server_reads_the_agents_log_again() {
    let world = World::new().await;
    let made = world.create(600).await;
    world.machine.guest(&made.id).unwrap().note(1_000, "info", "long ago");
    assert_eq!(messages(&world, &made.id, forward()).await.len(), 2);
    let world = world.crash().await;
    let lines = messages(&world, &made.id, forward()).await;
    assert_eq!(lines, ["long ago", "server restarted, sandbox adopted"]);
}

#[tokio::test]
async fn running_out_of_memory_is_in_the_log_once() {
    let world = World::new().await;
    let made = world.create(600).await;
    world.machine.guest(&made.id).unwrap().oom_kills.store(2, Ordering::SeqCst);
    let warnings = LogQuery { level: Some(Level::Warn), ..forward() };
    for _ in 0..2 {
        let lines = messages(&world, &made.id, warnings.clone()).await;
        assert_eq!(lines, ["out of memory (OOM): 2 of its processes killed"]);
    }
}
