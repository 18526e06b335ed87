//! Requests with an idempotency key.

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use soulbox_control::{Create, KEY_REUSED};
use soulbox_engine::Error as EngineError;
use soulbox_model::TeamId;

use crate::world::{World, keyed, map, request, status, until};

#[tokio::test]
async fn a_repeat_returns_the_same_sandbox() {
    let world = World::new().await;
    let first = world.control.create(world.team, keyed(60, "job-1")).await.unwrap();
    let again = world.control.create(world.team, keyed(60, "job-1")).await.unwrap();
    assert_eq!(first, again);
    let other = world.control.create(world.team, keyed(60, "job-2")).await.unwrap();
    assert_ne!(first.id, other.id);
    assert_eq!(world.machine.alive(), 2);
}

#[tokio::test]
async fn another_request_under_the_same_key_is_a_conflict() {
    let world = World::new().await;
    world.control.create(world.team, keyed(60, "job")).await.unwrap();
    for other in [
        keyed(61, "job"),
        Create { metadata: map([("a", "b")]), ..keyed(60, "job") },
        Create { env: map([("a", "b")]), ..keyed(60, "job") },
        Create { secure: false, ..keyed(60, "job") },
    ] {
        let error = world.control.create(world.team, other).await.unwrap_err();
        assert_eq!(error.http_status(), 409);
        assert!(error.to_string().starts_with(KEY_REUSED), "{error}");
    }
    assert_eq!(world.machine.alive(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_at_the_same_time_make_one_sandbox() {
    let world = World::new().await;
    world.machine.faults.create_ms.store(50, Ordering::SeqCst);
    let tasks: Vec<_> = (0..50)
        .map(|i| {
            let (control, team) = (world.control.clone(), world.team);
            let key = format!("job-{}", i % 2);
            tokio::spawn(async move { control.create(team, keyed(600, &key)).await.unwrap().id })
        })
        .collect();
    let ids: HashSet<_> =
        futures::future::join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!((ids.len(), world.machine.alive()), (2, 2));
}

#[tokio::test]
async fn after_a_failure_a_repeat_starts_anew() {
    let world = World::new().await;
    world.machine.faults.create_ms.store(50, Ordering::SeqCst);
    let error = EngineError::stage("spawn")(std::io::Error::from_raw_os_error(12));
    world.machine.faults.creates.lock().push_back(error);
    let tries = (0..3).map(|_| world.control.create(world.team, keyed(60, "job")));
    let results = futures::future::join_all(tries).await;
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    assert_eq!(world.machine.alive(), 1);
}

#[tokio::test]
async fn who_went_away_finds_the_sandbox_again() {
    let world = World::new().await;
    world.machine.faults.create_ms.store(2000, Ordering::SeqCst);
    let gone = world.control.create(world.team, keyed(600, "job"));
    tokio::select! {
        made = gone => panic!("{made:?}"),
        _ = until(async || world.control.alive() == 1) => {}
    }
    let found = world.control.create(world.team, keyed(600, "job")).await.unwrap();
    assert_eq!(world.machine.alive(), 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.control.is_running(&found.id));
}

#[tokio::test]
async fn a_key_outlives_its_sandbox_and_the_server() {
    let world = World::new().await;
    let first = world.control.create(world.team, keyed(60, "job")).await.unwrap();
    let world = world.crash().await;
    let again = world.control.create(world.team, keyed(60, "job")).await.unwrap();
    assert_eq!((&again.id, &again.access_token), (&first.id, &first.access_token));
    world.control.kill(world.team, &first.id).await.unwrap();
    assert_eq!(status(world.control.create(world.team, keyed(60, "job")).await), 409);
    let world = world.crash().await;
    assert_eq!(status(world.control.create(world.team, keyed(60, "job")).await), 409);
    assert_eq!(world.machine.alive(), 0);
}

#[tokio::test]
async fn keys_of_one_team_are_not_those_of_another() {
    let world = World::new().await;
    world.control.create(world.team, keyed(60, "job")).await.unwrap();
    // The store refuses a team that does not exist: the other team's request is a new one.
    let stranger = TeamId::random();
    assert_eq!(status(world.control.create(stranger, keyed(60, "job")).await), 500);
    until(async || world.machine.alive() == 1).await;
    assert_eq!(status(world.control.create(stranger, request(60)).await), 500);
    until(async || world.control.alive() == 1).await;
}
