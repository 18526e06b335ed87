//! Metrics of sandboxes.

use chrono::TimeDelta;
use soulbox_model::{Resources, SandboxId, TeamId};

use crate::world::{World, status, until};

#[tokio::test]
async fn samples_come_by_themselves_and_stay_after_the_end() {
    let world = World::new().await;
    let made = world.create(600).await;
    let all = async || world.control.metrics(world.team, &made.id, None, None).await.unwrap();
    until(async || !all().await.is_empty()).await;
    let sample = all().await[0];
    let granted = Resources::default();
    assert_eq!(sample.cpu_count, granted.cpu_count());
    assert_eq!((sample.mem_total, sample.disk_total), (granted.memory_bytes, granted.disk_bytes));
    assert!(sample.mem_used > 0 && sample.mem_used < sample.mem_total);
    assert!((0.0..=100.0).contains(&sample.cpu_used_pct));

    let latest = world.control.latest_metrics(world.team, std::slice::from_ref(&made.id)).await;
    assert_eq!(latest.unwrap()[&made.id], *all().await.last().unwrap());
    let strangers = world
        .control
        .latest_metrics(TeamId::random(), std::slice::from_ref(&made.id))
        .await
        .unwrap();
    assert!(strangers.is_empty());

    let at = sample.timestamp;
    let range = |start, end| world.control.metrics(world.team, &made.id, Some(start), Some(end));
    assert_eq!(range(at, at).await.unwrap(), [sample]);
    let second = TimeDelta::seconds(1);
    assert!(range(at - second * 2, at - second).await.unwrap().is_empty());
    assert_eq!(status(range(at, at - second).await), 400);

    world.control.kill(world.team, &made.id).await.unwrap();
    assert_eq!(all().await[0], sample);
    let latest = world.control.latest_metrics(world.team, &[made.id]).await;
    assert!(latest.unwrap().is_empty());
}

#[tokio::test]
async fn who_asks_for_too_many_or_the_unknown() {
    let world = World::new().await;
    let ids: Vec<_> = (0..101).map(|_| SandboxId::random()).collect();
    assert_eq!(status(world.control.latest_metrics(world.team, &ids).await), 400);
    assert!(world.control.latest_metrics(world.team, &ids[1..]).await.unwrap().is_empty());
    assert!(world.control.metrics(world.team, &ids[0], None, None).await.unwrap().is_empty());
}
