//! Sandboxes outlive the server.

use std::{sync::atomic::Ordering, time::Duration};

use soulbox_control::{Create, State};
use soulbox_engine::Target;
use soulbox_model::{Resources, SandboxId};
use soulbox_store::SandboxRow;

use crate::world::{World, keyed, map, request, status, until};

#[tokio::test]
async fn the_next_server_adopts_what_lives() {
    let world = World::new().await;
    let asked = Create { metadata: map([("k", "v")]), ..request(600) };
    let made = world.control.create(world.team, asked).await.unwrap();
    let moved = world.control.set_timeout(world.team, &made.id, Duration::from_secs(900)).await;
    let pid_before = world.machine.guest(&made.id).unwrap();
    let world = world.crash().await;
    let adopted = world.control.get(world.team, &made.id).await.unwrap();
    assert_eq!(adopted, moved.unwrap());
    assert!(std::sync::Arc::ptr_eq(&pid_before, &world.machine.guest(&made.id).unwrap()));
    assert_eq!(world.control.alive(), 1);
    world.control.dial(&made.id, Target::Agent).await.unwrap();
    world.control.kill(world.team, &made.id).await.unwrap();
    assert_eq!(world.machine.alive(), 0);
}

#[tokio::test]
async fn adopted_sandboxes_time_out_and_are_watched() {
    let world = World::new().await;
    let (short, dies) = (world.create(2).await, world.create(600).await);
    let world = world.crash().await;
    assert_eq!(world.control.alive(), 2);
    world.machine.guest(&dies.id).unwrap().crash(true);
    until(async || !world.control.is_running(&dies.id)).await;
    until(async || !world.control.is_running(&short.id)).await;
    let late = chrono::Utc::now() - short.end_at;
    assert!(late < chrono::TimeDelta::milliseconds(500), "late by {late}");
}

#[tokio::test]
async fn what_expired_or_died_meanwhile_is_gone() {
    let world = World::new().await;
    let (expired, died, lives) =
        (world.create(1).await, world.create(600).await, world.create(600).await);
    let machine = world.machine.clone();
    let World { dir, limits, control, .. } = world;
    drop(control);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    machine.guest(&died.id).unwrap().crash(false);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(machine.alive(), 3);
    let control = soulbox_control::Control::open(soulbox_control::Config {
        engine: machine.engine(),
        store: soulbox_store::Store::open(dir.path().join("soulbox.db")).await.unwrap(),
        templates: soulbox_image::Templates::open(dir.path().join("templates")).unwrap().into(),
        resources: Resources::default(),
        limits,
        domain: None,
    })
    .await
    .unwrap();
    assert!(!control.is_running(&died.id));
    let took = until(async || control.alive() == 1).await;
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert!(control.is_running(&lives.id) && !control.is_running(&expired.id));
    assert_eq!(machine.alive(), 1);
}

#[tokio::test]
async fn the_half_made_and_half_ended_are_finished() {
    let world = World::new().await;
    let lives = world.create(600).await;
    let ending = world.create(600).await;
    let store = world.store().await;
    store.set_ending(&ending.id).await.unwrap();
    let row = world.row(&lives.id).await.unwrap();
    let creating =
        SandboxRow { id: SandboxId::random(), state: State::Creating, record: None, ..row };
    let request = soulbox_store::Idempotency { key: "job".into(), request_hash: "x".into() };
    store.insert_sandbox(&creating, Some(&request)).await.unwrap();

    let world = world.crash().await;
    assert_eq!((world.machine.alive(), world.control.alive()), (1, 1));
    assert!(world.control.is_running(&lives.id));
    assert_eq!(world.row(&ending.id).await, None);
    assert_eq!(world.row(&creating.id).await, None);
    // Nothing had come of that request.
    world.control.create(world.team, keyed(60, "job")).await.unwrap();
}

#[tokio::test]
async fn what_belongs_to_no_row_is_swept() {
    let world = World::new().await;
    let made = world.create(600).await;
    world.store().await.delete_sandbox(&made.id).await.unwrap();
    let world = world.crash().await;
    assert_eq!((world.machine.alive(), world.control.alive()), (0, 0));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_does_not_stop_the_server() {
    let world = World::new().await;
    let (bad, good) = (world.create(600).await, world.create(600).await);
    world.control.close(false).await;
    let database = world.dir.path().join("soulbox.db");
    let damage = format!("UPDATE sandbox SET metadata = '{{' WHERE id = '{}'", bad.id);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&database);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(damage)).execute(&pool).await.unwrap();
    pool.close().await;
    let world = world.crash().await;
    assert!(world.control.is_running(&good.id) && !world.control.is_running(&bad.id));
    assert_eq!(world.machine.alive(), 1);
}

#[tokio::test]
async fn a_close_keeps_sandboxes_unless_told_otherwise() {
    let world = World::new().await;
    let made = world.create(600).await;
    world.control.close(false).await;
    assert_eq!(world.machine.alive(), 1);
    let world = world.crash().await;
    assert!(world.control.is_running(&made.id));
    world.control.close(true).await;
    assert_eq!(world.machine.alive(), 0);
    assert_eq!(world.row(&made.id).await, None);
}

#[tokio::test]
async fn a_kill_is_not_undone_by_a_crash() {
    let world = World::new().await;
    let made = world.create(600).await;
    world.machine.faults.destroys.store(1000, Ordering::SeqCst);
    assert_eq!(status(world.control.kill(world.team, &made.id).await), 500);
    let machine = world.machine.clone();
    // The new server's first attempt fails too: the sweep does it.
    machine.faults.destroys.store(1, Ordering::SeqCst);
    let world = world.crash().await;
    assert_eq!((world.machine.alive(), world.control.alive()), (0, 0));
    assert_eq!(world.row(&made.id).await, None);
}
