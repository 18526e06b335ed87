//! How sandboxes end.

use std::{sync::atomic::Ordering, time::Duration};

use soulbox_control::{LogQuery, State};
use soulbox_model::{SandboxId, TeamId};

use crate::world::{World, request, status, until};

#[tokio::test]
async fn a_killed_sandbox_is_gone() {
    let world = World::new().await;
    let made = world.create(60).await;
    world.control.kill(world.team, &made.id).await.unwrap();
    assert_eq!((world.machine.alive(), world.control.alive()), (0, 0));
    assert_eq!(world.row(&made.id).await, None);
    for result in [
        world.control.get(world.team, &made.id).await.map(drop),
        world.control.kill(world.team, &made.id).await,
        world.control.connect(world.team, &made.id, Duration::from_secs(9)).await.map(drop),
        world.control.set_timeout(world.team, &made.id, Duration::from_secs(9)).await.map(drop),
        world.control.refresh(world.team, &made.id, Duration::from_secs(9)).await,
    ] {
        assert_eq!(status(result), 404);
    }
}

#[tokio::test]
async fn kills_at_the_same_time_all_succeed() {
    let world = World::new().await;
    let made = world.create(60).await;
    world.machine.faults.destroy_ms.store(50, Ordering::SeqCst);
    let kills = (0..10).map(|_| world.control.kill(world.team, &made.id));
    for result in futures::future::join_all(kills).await {
        result.unwrap();
    }
    assert_eq!(world.machine.alive(), 0);
}

#[tokio::test]
async fn nobody_touches_what_belongs_to_another_team() {
    let world = World::new().await;
    let made = world.create(60).await;
    let stranger = TeamId::random();
    assert_eq!(status(world.control.get(stranger, &made.id).await), 404);
    assert_eq!(status(world.control.kill(stranger, &made.id).await), 404);
    assert_eq!(status(world.control.logs(stranger, &made.id, LogQuery::default()).await), 404);
    let timeout = Duration::ZERO;
    assert_eq!(status(world.control.set_timeout(stranger, &made.id, timeout).await), 404);
    assert!(world.control.metrics(stranger, &made.id, None, None).await.unwrap().is_empty());
    assert!(world.control.is_running(&made.id));
    assert_eq!(status(world.control.kill(world.team, &SandboxId::random()).await), 404);
}

#[tokio::test]
async fn while_it_ends_a_sandbox_is_neither_seen_nor_kept() {
    let world = World::new().await;
    let made = world.create(60).await;
    world.machine.faults.destroy_ms.store(300, Ordering::SeqCst);
    let (control, team, id) = (world.control.clone(), world.team, made.id.clone());
    let kill = tokio::spawn(async move { control.kill(team, &id).await });
    until(async || !world.control.is_running(&made.id)).await;
    let ten = Duration::from_secs(10);
    assert_eq!(status(world.control.get(world.team, &made.id).await), 404);
    assert_eq!(status(world.control.connect(world.team, &made.id, ten).await), 409);
    assert_eq!(status(world.control.set_timeout(world.team, &made.id, ten).await), 409);
    until(async || world.row(&made.id).await.is_some_and(|row| row.state == State::Ending)).await;
    kill.await.unwrap().unwrap();
    assert_eq!(world.row(&made.id).await, None);
}

#[tokio::test]
async fn a_sandbox_whose_first_process_dies_ends() {
    let world = World::new().await;
    for (oom, says) in [(false, "first process died"), (true, "OOM")] {
        let made = world.create(600).await;
        world.machine.guest(&made.id).unwrap().crash(oom);
        until(async || world.control.alive() == 0).await;
        assert_eq!(world.row(&made.id).await, None);
        assert_eq!(world.machine.alive(), 0);
        let log = world.control.logs(world.team, &made.id, LogQuery::default()).await.unwrap();
        assert!(log[0].message.contains(says), "{log:?}");
        assert_eq!(log[0].level, soulbox_control::Level::Error);
    }
}

#[tokio::test]
async fn an_end_that_fails_is_reported_and_tried_again() {
    let world = World::new().await;
    let made = world.create(60).await;
    world.machine.faults.destroys.store(2, Ordering::SeqCst);
    assert_eq!(status(world.control.kill(world.team, &made.id).await), 500);
    assert_eq!(status(world.control.get(world.team, &made.id).await), 404);
    assert_eq!(world.row(&made.id).await.unwrap().state, State::Ending);
    until(async || world.control.alive() == 0).await;
    assert_eq!(world.machine.alive(), 0);
    assert_eq!(world.row(&made.id).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_end_a_few_at_a_time() {
    let world = World::new().await;
    let made = (0..40).map(|_| world.control.create(world.team, request(600)));
    let made = futures::future::join_all(made).await;
    world.machine.faults.destroy_ms.store(20, Ordering::SeqCst);
    let kills = made.iter().map(|sandbox| {
        let id = &sandbox.as_ref().unwrap().id;
        world.control.kill(world.team, id)
    });
    for result in futures::future::join_all(kills).await {
        result.unwrap();
    }
    assert_eq!(world.machine.alive(), 0);
    let most = world.machine.faults.most_destroying.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} at once");
}
