//! API keys.

use std::time::Duration;

use soulbox_model::TeamId;
use tokio::time::sleep;

use crate::world::{World, status};

#[tokio::test]
async fn a_key_opens_its_team_until_it_is_revoked() {
    let world = World::new().await;
    let new = world.control.create_key(world.team, "laptop", Some("ann")).await.unwrap();
    let caller = world.control.authenticate(&new.plain).await.unwrap();
    assert_eq!((caller.team, caller.key_id), (world.team, new.key.id));
    let listed = world.control.list_keys(world.team).await.unwrap();
    assert!(listed[0].last_used_at.is_some());
    assert_eq!((listed[0].name.as_str(), listed[0].created_by.as_deref()), ("laptop", Some("ann")));
    assert!(world.control.list_keys(TeamId::random()).await.unwrap().is_empty());

    world.control.rename_key(world.team, new.key.id, "desk").await.unwrap();
    assert_eq!(world.control.list_keys(world.team).await.unwrap()[0].name, "desk");
    assert_eq!(world.control.authenticate(&new.plain).await.unwrap(), caller);
    assert_eq!(status(world.control.revoke_key(TeamId::random(), new.key.id).await), 404);
    world.control.revoke_key(world.team, new.key.id).await.unwrap();
    assert_eq!(status(world.control.authenticate(&new.plain).await), 401);
    assert_eq!(status(world.control.revoke_key(world.team, new.key.id).await), 404);
    assert_eq!(status(world.control.rename_key(world.team, new.key.id, "x").await), 404);
}

#[tokio::test]
async fn a_key_revoked_by_another_process_is_dead_within_a_second() {
    let world = World::new().await;
    let new = world.control.create_key(world.team, "laptop", None).await.unwrap();
    world.control.authenticate(&new.plain).await.unwrap();
    assert!(world.store().await.revoke_key(world.team, new.key.id).await.unwrap());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(status(world.control.authenticate(&new.plain).await), 401);
}

#[tokio::test]
async fn a_key_made_by_another_process_works_at_once() {
    let world = World::new().await;
    let new = world.store().await.create_key(world.team, "cli", None).await.unwrap();
    world.control.authenticate(&new.plain).await.unwrap();
}

#[tokio::test]
async fn what_is_no_key_opens_nothing() {
    let world = World::new().await;
    let unknown = format!("e2b_{}", "0".repeat(40));
    for bad in ["", "e2b_", "hunter2", &unknown, &format!("{unknown}'"), &"e2b_f".repeat(10_000)] {
        assert_eq!(status(world.control.authenticate(bad).await), 401, "{bad:.50}");
    }
    for bad in ["", "  ", "a\nb", &"x".repeat(129)] {
        assert_eq!(status(world.control.create_key(world.team, bad, None).await), 400);
    }
}
