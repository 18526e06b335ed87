//! How long sandboxes live.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use soulbox_control::{Limits, LogQuery};

use crate::world::{World, request, status, until};

const S: fn(u64) -> Duration = Duration::from_secs;

fn near(actual: DateTime<Utc>, expected: DateTime<Utc>) -> bool {
    (actual - expected).abs() < TimeDelta::seconds(4)
}

#[tokio::test]
async fn timeouts_fire_within_a_second() {
    let world = World::new().await;
    let made: Vec<_> = futures::future::join_all([1, 2, 2, 3].map(|s| world.create(s))).await;
    let stays = world.create(600).await;
    let mut least = TimeDelta::MAX;
    for sandbox in &made {
        until(async || !world.control.is_running(&sandbox.id)).await;
        let late = Utc::now() - sandbox.end_at;
        assert!(late >= TimeDelta::zero(), "early by {late}");
        assert!(late < TimeDelta::seconds(4), "late by {late}");
        least = least.min(late);
    }
    assert!(least < TimeDelta::milliseconds(500), "late by {least} at least");
    until(async || world.control.alive() == 1).await;
    assert!(world.control.is_running(&stays.id));
    assert_eq!(world.machine.alive(), 1);
    let log = world.control.logs(world.team, &made[0].id, LogQuery::default()).await.unwrap();
    assert!(log[0].message.contains("timeout"), "{log:?}");
}

#[tokio::test]
async fn set_timeout_moves_the_end_both_ways() {
    let world = World::new().await;
    let made = world.create(60).await;
    for seconds in [600, 5] {
        let set = world.control.set_timeout(world.team, &made.id, S(seconds)).await.unwrap();
        assert!(near(set.end_at, Utc::now() + S(seconds)));
        assert_eq!(world.row(&made.id).await.unwrap().end_at, set.end_at);
    }
    let set = world.control.set_timeout(world.team, &made.id, S(1)).await.unwrap();
    until(async || !world.control.is_running(&made.id)).await;
    let late = Utc::now() - set.end_at;
    assert!((TimeDelta::zero()..TimeDelta::seconds(4)).contains(&late), "late by {late}");
}

#[tokio::test]
async fn zero_ends_a_sandbox_at_once() {
    let world = World::new().await;
    let made = world.create(60).await;
    world.control.set_timeout(world.team, &made.id, Duration::ZERO).await.unwrap();
    let took = until(async || world.control.alive() == 0).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_postponed_end_does_not_come() {
    let world = World::new().await;
    let made = world.create(3).await;
    world.control.set_timeout(world.team, &made.id, S(60)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert!(world.control.is_running(&made.id));
}

#[tokio::test]
async fn connect_and_refresh_only_extend() {
    let world = World::new().await;
    let made = world.create(60).await;
    let same = world.control.connect(world.team, &made.id, S(10)).await.unwrap();
    assert_eq!(same, made);
    let longer = world.control.connect(world.team, &made.id, S(120)).await.unwrap();
    assert!(near(longer.end_at, Utc::now() + S(120)));
    assert_eq!(longer.access_token, made.access_token);
    world.control.refresh(world.team, &made.id, S(0)).await.unwrap();
    assert_eq!(world.control.get(world.team, &made.id).await.unwrap().end_at, longer.end_at);
    world.control.refresh(world.team, &made.id, S(300)).await.unwrap();
    let refreshed = world.control.get(world.team, &made.id).await.unwrap();
    assert!(near(refreshed.end_at, Utc::now() + S(300)));
    assert_eq!(world.row(&made.id).await.unwrap().end_at, refreshed.end_at);
    assert_eq!(status(world.control.refresh(world.team, &made.id, S(3601)).await), 400);

    let short = world.create(3).await;
    world.control.refresh(world.team, &short.id, S(0)).await.unwrap();
    let kept = world.control.get(world.team, &short.id).await.unwrap();
    assert!(near(kept.end_at, Utc::now() + S(15)));
}

#[tokio::test]
async fn nothing_outlives_the_longest_life() {
    let limits = Limits { max_timeout: S(100), ..Limits::default() };
    let world = World::with(limits).await;
    assert_eq!(status(world.control.create(world.team, request(101)).await), 400);
    let made = world.create(50).await;
    let latest = made.started_at + S(100);
    assert_eq!(status(world.control.connect(world.team, &made.id, S(101)).await), 400);
    let capped = world.control.set_timeout(world.team, &made.id, S(u64::MAX)).await.unwrap();
    assert_eq!(capped.end_at, latest);
    world.control.refresh(world.team, &made.id, S(3600)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let same = world.control.connect(world.team, &made.id, S(100)).await.unwrap();
    assert_eq!(same.end_at, latest);
}

#[tokio::test]
async fn the_last_of_many_changes_is_the_one_on_disk() {
    let world = World::new().await;
    let made = world.create(60).await;
    let changes = (1..=50).map(|i| world.control.set_timeout(world.team, &made.id, S(100 + i)));
    futures::future::join_all(changes).await;
    let now = world.control.get(world.team, &made.id).await.unwrap();
    assert_eq!(world.row(&made.id).await.unwrap().end_at, now.end_at);
}
