//! What sandboxes used of their limits of bytes, on real files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{path::Path, time::Duration};

use chrono::Utc;
use soulbox_model::{
    Resources, SandboxId,
    network::{ByteLimit, BytesUsed, Network},
};
use soulbox_store::{SandboxRow, SandboxState, Store};
use sqlx::{ConnectOptions, Executor, SqliteConnection, sqlite::SqliteConnectOptions};

async fn open(dir: &Path) -> Store {
    Store::open(dir.join("soulbox.db")).await.unwrap()
}

/// As another process sees the database.
async fn beside(dir: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(dir.join("soulbox.db")).connect().await.unwrap()
}

fn network(destinations: &[&str]) -> Network {
    let mut network = Network::default();
    let limit = |text: &&str| ByteLimit::new(text.parse().unwrap(), Some(1 << 20), None).unwrap();
    network.egress.bytes = destinations.iter().map(limit).collect();
    network
}

async fn add(store: &Store, network: Network) -> SandboxId {
    let row = SandboxRow {
        id: SandboxId::random(),
        team: store.default_team().id,
        template_id: "base".parse().unwrap(),
        template_name: "base".into(),
        alias: None,
        state: SandboxState::Running,
        metadata: std::collections::BTreeMap::new(),
        resources: Resources::default(),
        started_at: Utc::now(),
        end_at: Utc::now(),
        secure: true,
        auto_pause: false,
        allow_internet: None,
        network: Some(network),
        authority: None,
        envd_version: "0.6.13".into(),
        record: None,
    };
    store.insert_sandbox(&row, None).await.unwrap();
    row.id
}

fn used(destination: &str, sent: u64, received: u64) -> BytesUsed {
    BytesUsed { destination: destination.parse().unwrap(), sent, received }
}

/// What is noted of a sandbox, by destination.
async fn noted(store: &Store, of: &SandboxId) -> Vec<BytesUsed> {
    let all = store.bytes_used().await.unwrap();
    let mut own: Vec<_> =
        all.into_iter().filter(|(id, _)| id == of).map(|(_, used)| used).collect();
    own.sort_by_key(|used| used.destination.to_string());
    own
}

#[tokio::test]
async fn counts_survive_a_restart_and_go_with_their_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let names = ["*", "192.0.2.0/24"];
    let (one, two) = (add(&store, network(&names)).await, add(&store, network(&names)).await);
    let gone = SandboxId::random();
    let (any, net) = (used("*", 5, 6), used("192.0.2.0/24", 7, u64::MAX));
    store.save_bytes(&[(&one, &any), (&gone, &any), (&two, &net)]).await.unwrap();
    store.save_bytes(&[(&one, &used("*", 8, 9))]).await.unwrap();
    store.save_bytes(&[]).await.unwrap();
    store.close().await;

    let store = open(dir.path()).await;
    assert_eq!(noted(&store, &one).await, [used("*", 8, 9)]);
    assert_eq!(noted(&store, &two).await, [used("192.0.2.0/24", 7, i64::MAX as u64)]);
    assert_eq!(noted(&store, &gone).await, []);
    store.delete_sandbox(&one).await.unwrap();
    store.forget_sandbox(two.as_str()).await.unwrap();
    assert_eq!(store.bytes_used().await.unwrap(), []);
}

#[tokio::test]
async fn other_rules_bring_the_counts_that_they_keep() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (one, two) = (add(&store, network(&["*"])).await, add(&store, network(&["*"])).await);
    for id in [&one, &two] {
        store.save_bytes(&[(id, &used("*", 1, 1)), (id, &used("b.org", 2, 2))]).await.unwrap();
    }
    let kept = [used("*", 3, 1)];
    store.set_network(&one, &network(&["*", "c.org"]), None, &kept).await.unwrap();
    assert_eq!(noted(&store, &one).await, kept);
    assert_eq!(noted(&store, &two).await, [used("*", 1, 1), used("b.org", 2, 2)]);
    store.set_network(&one, &network(&[]), Some(true), &[]).await.unwrap();
    assert_eq!(noted(&store, &one).await, []);
}

#[tokio::test]
async fn many_are_written_beside_other_work_and_a_busy_database_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let id = add(&store, network(&["*"])).await;
    let many: Vec<_> = (0..2500).map(|n| used(&format!("n{n}.example.com"), n, 1)).collect();
    let many: Vec<_> = many.iter().map(|used| (&id, used)).collect();
    let mut other = beside(dir.path()).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let free = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(other);
    };
    let (saved, ()) = tokio::join!(store.save_bytes(&many), free);
    saved.unwrap();
    assert_eq!(noted(&store, &id).await.len(), 2500);
}

/// The database as it was when the counts stood in the rules.
async fn age(dir: &Path, rules: &[(&SandboxId, &str)]) {
    let mut database = beside(dir).await;
    database.execute("DROP TABLE bytes_used").await.unwrap();
    database.execute("ALTER TABLE sandbox DROP COLUMN network_key").await.unwrap();
    database.execute("DELETE FROM _sqlx_migrations WHERE version >= 6").await.unwrap();
    for (id, text) in rules {
        sqlx::query("UPDATE sandbox SET network = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(text)
            .execute(&mut database)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_old_database_keeps_its_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let sandboxes = [(); 5].map(|()| add(&store, Network::default()));
    let [counted, uncounted, without, broken, odd] =
        futures::future::join_all(sandboxes).await.try_into().unwrap();
    store.close().await;
    let limits = r#"{"egress":{"internet":true,"bytes":[
        {"destination":"*.example.com","sent":10,"received":null,"used":[3,4]},
        {"destination":"*","sent":null,"received":9,"used":[18446744073709551615,0]}]}}"#;
    let older = r#"{"egress":{"internet":true,"bytes":[
        {"destination":"*","sent":1,"received":null}]}}"#;
    let odd_one = r#"{"egress":{"internet":true,"bytes":{"a":1,"b":{"used":[1,2]}}}}"#;
    let rules = [
        (&counted, limits),
        (&uncounted, older),
        (&without, r#"{"egress":{"internet":true}}"#),
        (&broken, "{{"),
        (&odd, odd_one),
    ];
    age(dir.path(), &rules).await;

    let store = open(dir.path()).await;
    let expected = [used("*", i64::MAX as u64, 0), used("*.example.com", 3, 4)];
    assert_eq!(noted(&store, &counted).await, expected);
    assert_eq!(store.bytes_used().await.unwrap().len(), expected.len(), "no others");
    let loaded = store.sandboxes().await.unwrap();
    let of = |id: &SandboxId| {
        loaded.rows.iter().find(|row| row.id == *id).and_then(|row| row.network.clone())
    };
    assert_eq!(of(&counted).unwrap().egress.bytes[0].sent, Some(10));
    let unreadable: Vec<_> = loaded.unreadable.iter().map(|(id, _)| id.as_str()).collect();
    assert!(unreadable.contains(&broken.as_str()) && unreadable.len() == 2, "{unreadable:?}");
}
