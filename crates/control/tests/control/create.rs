//! Making sandboxes.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use soulbox_control::{Create, Limits, State};
use soulbox_engine::{Error as EngineError, Target};
use soulbox_model::{Error, SandboxId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, map, request, status, until};

#[tokio::test]
async fn a_sandbox_is_what_was_asked_for() {
    let world = World::new().await;
    let asked = Create {
        metadata: map([("owner", "ann")]),
        env: map([("A", "1")]),
        allow_internet: Some(false),
        ..request(60)
    };
    let made = world.control.create(world.team, asked).await.unwrap();
    assert_eq!(made.state, State::Running);
    assert_eq!((made.template_id.as_str(), made.alias.as_deref()), ("host", Some("host")));
    assert_eq!(made.metadata, map([("owner", "ann")]));
    assert_eq!(made.allow_internet, Some(false));
    assert_eq!(made.domain.as_deref(), Some("box.test"));
    assert_eq!((made.end_at - made.started_at).num_seconds(), 60);
    assert_eq!(world.control.get(world.team, &made.id).await.unwrap(), made);

    let guest = world.machine.guest(&made.id).unwrap();
    let agent = guest.agent();
    assert_eq!(agent.access_token, made.access_token);
    assert_eq!(agent.access_token.as_ref().map(String::len), Some(64));
    assert_eq!(agent.env["A"], "1");
    assert_eq!(agent.sandbox_id, made.id);
    assert!(!guest.spec.rootfs.layers.is_empty());

    until(async || world.row(&made.id).await.is_some_and(|row| row.state == State::Running)).await;
    let row = world.row(&made.id).await.unwrap();
    assert_eq!((row.state, row.end_at), (State::Running, made.end_at));
    let database = std::fs::read(world.dir.path().join("soulbox.db-wal")).unwrap();
    let token = made.access_token.unwrap();
    assert!(!database.windows(token.len()).any(|bytes| bytes == token.as_bytes()));
}

#[tokio::test]
async fn tokens_differ_and_insecure_sandboxes_have_none() {
    let world = World::new().await;
    let open = Create { secure: false, ..request(60) };
    let open = world.control.create(world.team, open).await.unwrap();
    assert_eq!(open.access_token, None);
    assert_eq!(world.machine.guest(&open.id).unwrap().agent().access_token, None);
    let (a, b) = (world.create(60).await, world.create(60).await);
    assert_ne!(a.access_token, b.access_token);
}

#[tokio::test]
async fn a_token_names_its_sandbox_while_that_runs() {
    let world = World::new().await;
    let (made, other) = (world.create(60).await, world.create(60).await);
    let token = made.access_token.clone().unwrap();
    assert_eq!(world.control.by_access_token(&token), Some(made.id.clone()));
    assert_eq!(world.control.by_access_token(&token[1..]), None);
    assert_eq!(world.control.by_access_token(""), None);
    let world = world.crash().await;
    assert_eq!(world.control.by_access_token(&token), Some(made.id.clone()));
    world.control.kill(world.team, &made.id).await.unwrap();
    assert_eq!(world.control.by_access_token(&token), None);
    assert!(world.control.is_running(&other.id));
}

#[tokio::test]
async fn a_stream_reaches_the_sandbox_until_it_ends() {
    let world = World::new().await;
    let made = world.create(60).await;
    let mut stream = world.control.dial(&made.id, Target::Agent).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    world.control.kill(world.team, &made.id).await.unwrap();
    assert!(!world.control.is_running(&made.id));
    let refused = world.control.dial(&made.id, Target::Agent).await.unwrap_err();
    assert!(refused.to_string().contains("is not running"), "{refused}");
}

#[tokio::test]
async fn bad_requests_leave_nothing() {
    let world = World::new().await;
    for (bad, expected) in [
        (Create { template: "nope".into(), ..request(60) }, 404),
        (Create { template: "base".into(), ..request(60) }, 503),
        (request(0), 400),
        (request(24 * 3600 + 1), 400),
        (Create { env: map([("A=B", "")]), ..request(60) }, 400),
        (Create { auto_pause: true, ..request(60) }, 501),
    ] {
        assert_eq!(status(world.control.create(world.team, bad).await), expected);
    }
    assert_eq!((world.machine.alive(), world.control.alive()), (0, 0));
    assert!(world.store().await.sandboxes().await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_failed_creation_says_why_and_leaves_nothing() {
    let world = World::new().await;
    let errors = [
        (EngineError::stage("spawn")(std::io::Error::from_raw_os_error(12)), 503),
        (EngineError::stage("spawn")(std::io::Error::from_raw_os_error(1)), 500),
        (EngineError::StartupTimeout { id: SandboxId::random(), timeout_ms: 10 }, 504),
        (EngineError::Exhausted { resource: "uid ranges", current: 3, limit: 3 }, 429),
    ];
    for (error, expected) in errors {
        world.machine.faults.creates.lock().push_back(error);
        assert_eq!(status(world.control.create(world.team, request(60)).await), expected);
        assert_eq!(world.control.alive(), 0);
        assert!(world.store().await.sandboxes().await.unwrap().rows.is_empty());
    }
    world.create(60).await;
}

#[tokio::test]
async fn no_more_than_the_limit_live_at_once() {
    let limits = Limits { max_sandboxes: 3, ..Limits::default() };
    let world = World::with(limits).await;
    world.machine.faults.create_ms.store(50, Ordering::SeqCst);
    let tries = (0..10).map(|_| world.control.create(world.team, request(60)));
    let results = futures::future::join_all(tries).await;
    let (made, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (3, 7));
    for error in refused {
        let Err(Error::ResourceLimit { current, limit, .. }) = error else { panic!("{error:?}") };
        assert_eq!((current, limit), (3, 3));
    }
    let first = made.into_iter().next().unwrap().unwrap();
    world.control.kill(world.team, &first.id).await.unwrap();
    world.create(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_all_run() {
    let world = World::new().await;
    let started = std::time::Instant::now();
    let tasks: Vec<_> = (0..200)
        .map(|i| {
            let (control, team) = (world.control.clone(), world.team);
            let asked = Create { metadata: map([("n", &i.to_string())]), ..request(600) };
            tokio::spawn(async move { control.create(team, asked).await.unwrap() })
        })
        .collect();
    let made: Vec<_> =
        futures::future::join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    eprintln!("200 concurrent creates: {:?}", started.elapsed());
    let ids: HashSet<_> = made.iter().map(|sandbox| sandbox.id.clone()).collect();
    assert_eq!((ids.len(), world.machine.alive(), world.control.alive()), (200, 200, 200));
    let rows: BTreeMap<_, _> = world
        .store()
        .await
        .sandboxes()
        .await
        .unwrap()
        .rows
        .into_iter()
        .map(|row| (row.id, row.metadata))
        .collect();
    for sandbox in &made {
        assert_eq!(rows[&sandbox.id], sandbox.metadata);
    }
    world.control.close(true).await;
    assert_eq!(world.machine.alive(), 0);
}

#[tokio::test]
async fn who_goes_away_leaves_no_sandbox() {
    let world = World::new().await;
    world.machine.faults.create_ms.store(2000, Ordering::SeqCst);
    let abandoned = world.control.create(world.team, request(600));
    tokio::select! {
        made = abandoned => panic!("{made:?}"),
        _ = until(async || world.control.alive() == 1) => {}
    }
    until(async || world.control.alive() == 0).await;
    assert_eq!(world.machine.alive(), 0);
    assert!(world.store().await.sandboxes().await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn after_close_nothing_is_made() {
    let world = World::new().await;
    world.machine.faults.create_ms.store(100, Ordering::SeqCst);
    let (control, team) = (world.control.clone(), world.team);
    let late = tokio::spawn(async move { control.create(team, request(600)).await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    world.control.close(false).await;
    let made = late.await.unwrap().unwrap();
    assert_eq!(status(world.control.create(world.team, request(60)).await), 503);
    let world = world.crash().await;
    assert!(world.control.is_running(&made.id));
}
