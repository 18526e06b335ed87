//! Sandboxes outlive the server.

use std::{sync::atomic::Ordering, time::Duration};

use soulbox_control::{Create, State};
use soulbox_engine::{Engine as _, Target};
use soulbox_model::{Resources, SandboxId, network::Network};
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
async fn names_survive_the_server_and_go_with_their_sandbox() {
    let world = World::new().await;
    let (mine, other) = (world.create(600).await, world.create(600).await);
    let port = soulbox_model::Port::new(3000).unwrap();
    let name = |text: &str| vec![text.parse().unwrap()];
    let set = async |world: &World, id, text: &str| {
        world.control.set_domains(world.team, id, Some((name(text), port))).await
    };
    set(&world, &mine.id, "a.example").await.unwrap();
    set(&world, &other.id, "b.example").await.unwrap();
    world.machine.guest(&other.id).unwrap().crash(false);
    until(async || world.control.by_domain("b.example").is_none()).await;
    let world = world.crash().await;
    assert_eq!(world.control.by_domain("a.example"), Some((mine.id.clone(), port)));
    let third = world.create(600).await;
    assert_eq!(status(set(&world, &third.id, "a.example").await), 409);
    world.control.kill(world.team, &mine.id).await.unwrap();
    assert_eq!(world.control.by_domain("a.example"), None);
    set(&world, &third.id, "a.example").await.unwrap();
    assert_eq!(status(set(&world, &mine.id, "c.example").await), 404);
}

#[tokio::test]
async fn what_is_exposed_stays_so() {
    let world = World::new().await;
    let port = |number| soulbox_model::Port::new(number).unwrap();
    let mut network = Network::default();
    network.ingress.exposed = Some(vec![port(8000)]);
    let asked = Create { network: Some(network), ..request(600) };
    let made = world.control.create(world.team, asked).await.unwrap();
    let (any, world) = (world.create(600).await, world.crash().await);
    let exposes = |id: &SandboxId, number| {
        world.control.port_access(id).unwrap().check_exposed(port(number)).is_ok()
    };
    assert!(exposes(&made.id, 8000) && !exposes(&made.id, 8001));
    assert!(exposes(&any.id, 8001));
}

#[tokio::test]
async fn adopted_sandboxes_time_out_and_are_watched() {
    let world = World::new().await;
    let (short, dies) = (world.create(4).await, world.create(600).await);
    let world = world.crash().await;
    assert_eq!(world.control.alive(), 2);
    world.machine.guest(&dies.id).unwrap().crash(true);
    until(async || !world.control.is_running(&dies.id)).await;
    until(async || !world.control.is_running(&short.id)).await;
    let late = chrono::Utc::now() - short.end_at;
    assert!(late < chrono::TimeDelta::seconds(4), "late by {late}");
}

#[tokio::test]
async fn what_expired_or_died_meanwhile_is_gone() {
    let world = World::new().await;
    let (expired, died, lives) =
        (world.create(3).await, world.create(600).await, world.create(600).await);
    let machine = world.machine.clone();
    let World { dir, limits, control, .. } = world;
    drop(control);
    tokio::time::sleep(Duration::from_millis(3200)).await;
    machine.guest(&died.id).unwrap().crash(false);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(machine.alive(), 3);
    let control = soulbox_control::Control::open(soulbox_control::Config {
        engine: machine.engine(),
        egress: soulbox_egress::Service::new(soulbox_egress::Config::default()),
        trusted: None,
        store: soulbox_store::Store::open(dir.path().join("soulbox.db")).await.unwrap(),
        templates: soulbox_image::Templates::open(dir.path().join("templates")).unwrap().into(),
        resources: Resources::default(),
        limits,
        domain: None,
        custom_domains: Vec::new(),
    })
    .await
    .unwrap();
    assert!(!control.is_running(&died.id));
    let took = until(async || control.alive() == 1).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
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
async fn a_row_that_says_too_little_is_checked_against_the_agent() {
    let world = World::new().await;
    let (served, told) = (world.create(600).await, world.create(600).await);
    until(async || world.row(&told.id).await.is_some_and(|row| row.state == State::Running)).await;
    let row = world.row(&told.id).await.unwrap();
    // Reserved and recorded, but the server died before it was started.
    let spec = world.machine.guest(&told.id).unwrap().spec.clone();
    let reserved = world.machine.engine().reserve(spec).await.unwrap();
    let (id, record) = (reserved.id, Some(reserved.record.0));
    let unstarted = SandboxRow { id, state: State::Creating, record, ..row };
    world.store().await.insert_sandbox(&unstarted, None).await.unwrap();
    // Started, and the server died before it noted so.
    until(async || world.row(&served.id).await.is_some_and(|row| row.state == State::Running))
        .await;
    world.sql("UPDATE sandbox SET state = 'creating'", &served.id).await;

    let world = world.crash().await;
    assert!(world.control.is_running(&served.id) && world.control.is_running(&told.id));
    assert_eq!(world.row(&served.id).await.unwrap().state, State::Running);
    assert!(!world.control.is_running(&unstarted.id));
    assert_eq!((world.machine.alive(), world.row(&unstarted.id).await), (2, None));
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
    world.sql("UPDATE sandbox SET metadata = '{'", &bad.id).await;
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
