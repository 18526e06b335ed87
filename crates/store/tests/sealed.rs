//! Passwords of proxies on real files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{collections::BTreeMap, path::Path};

use chrono::{SubsecRound, Utc};
use soulbox_model::{
    Resources, SandboxId, TeamId,
    network::{Egress, Network, UpstreamProxy},
};
use soulbox_store::{Idempotency, SandboxRow, SandboxState, Store};

const PASSWORD: &str = "correct-horse-battery-staple";

async fn open(dir: &Path) -> Store {
    Store::open(dir.join("soulbox.db")).await.unwrap()
}

fn network(password: &str) -> Network {
    let (user, password) = (Some("someone".to_owned()), Some(password.to_owned()));
    let proxy = UpstreamProxy::new("proxy.example.com:1080".parse().unwrap(), user, password, None);
    let egress = Egress { proxy: Some(proxy.unwrap()), ..Egress::default() };
    Network { egress, ..Network::default() }
}

fn row(team: TeamId, network: Option<Network>) -> SandboxRow {
    SandboxRow {
        id: SandboxId::random(),
        team,
        template_id: "base".parse().unwrap(),
        template_name: "base".into(),
        alias: None,
        state: SandboxState::Running,
        metadata: BTreeMap::new(),
        resources: Resources::default(),
        started_at: Utc::now().trunc_subsecs(6),
        end_at: Utc::now().trunc_subsecs(6),
        secure: true,
        auto_pause: false,
        allow_internet: None,
        network,
        authority: None,
        envd_version: "0.6.13".into(),
        record: None,
    }
}

/// Whether any file of the database, its log included, holds the text.
fn holds(dir: &Path, text: &str) -> bool {
    ["soulbox.db", "soulbox.db-wal"].iter().any(|name| {
        let bytes = std::fs::read(dir.join(name)).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// As one who can write the file would; each argument is a statement.
async fn sql(dir: &Path, statements: &[&'static str], bound: &[&str]) {
    let url = format!("sqlite://{}", dir.join("soulbox.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    for statement in statements {
        let query = bound.iter().fold(sqlx::query(*statement), |query, text| query.bind(*text));
        query.execute(&pool).await.unwrap();
    }
    pool.close().await;
}

async fn networks(store: &Store) -> Vec<Option<Network>> {
    let loaded = store.sandboxes().await.unwrap();
    assert!(loaded.unreadable.is_empty(), "{:?}", loaded.unreadable);
    loaded.rows.into_iter().map(|row| row.network).collect()
}

#[tokio::test]
async fn a_password_is_nowhere_in_the_database_and_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let request = Idempotency { key: "k".into(), request_hash: "h".into() };
    for request in [None, Some(&request)] {
        let made = row(team, Some(network(PASSWORD)));
        store.insert_sandbox(&made, request).await.unwrap();
    }
    let later = row(team, Some(Network::default()));
    store.insert_sandbox(&later, None).await.unwrap();
    store.set_network(&later.id, &network(PASSWORD), None, &[]).await.unwrap();
    let last = row(team, None);
    store.insert_sandbox(&last, None).await.unwrap();
    store.set_network(&last.id, &network(PASSWORD), None, &[]).await.unwrap();

    assert!(holds(dir.path(), last.id.as_str()), "this looks at the right bytes");
    assert!(!holds(dir.path(), PASSWORD) && !holds(dir.path(), "someone"));
    store.close().await;
    assert!(!holds(dir.path(), PASSWORD));
    let store = open(dir.path()).await;
    assert_eq!(networks(&store).await, vec![Some(network(PASSWORD)); 4]);

    store.set_network(&last.id, &Network::default(), None, &[]).await.unwrap();
    let rows = store.sandboxes().await.unwrap().rows;
    let found = rows.into_iter().find(|row| row.id == last.id).unwrap();
    assert_eq!(found.network, Some(Network::default()));
}

#[tokio::test]
async fn a_new_key_seals_them_too_and_the_old_one_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path()).await;
    let team = server.default_team().id;
    server.insert_sandbox(&row(team, Some(network(PASSWORD))), None).await.unwrap();
    let command = open(dir.path()).await;
    command.rotate_vault_key().await.unwrap();
    let keys = std::fs::read_to_string(dir.path().join("vault.key")).unwrap();
    assert_eq!(keys.lines().count(), 1);
    // The server has the old key in memory.
    assert_eq!(networks(&server).await, [Some(network(PASSWORD))]);
    server.insert_sandbox(&row(team, Some(network("another"))), None).await.unwrap();
    assert_eq!(networks(&open(dir.path()).await).await.len(), 2);
}

#[tokio::test]
async fn what_an_older_server_wrote_is_sealed_and_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let (kept, gone) = (row(team, None), row(team, None));
    store.insert_sandbox(&kept, None).await.unwrap();
    store.insert_sandbox(&gone, None).await.unwrap();
    store.close().await;
    let text = serde_json::to_string(&network(PASSWORD)).unwrap();
    let id = gone.id.as_str();
    let clear = "UPDATE sandbox SET network = $1, network_key = NULL WHERE $2 <> ''";
    sql(dir.path(), &["PRAGMA user_version = 0", clear], &[&text, id]).await;
    sql(dir.path(), &["DELETE FROM sandbox WHERE id = $1"], &[id]).await;
    assert!(holds(dir.path(), PASSWORD), "this looks at the right bytes");

    let store = open(dir.path()).await;
    assert!(!holds(dir.path(), PASSWORD));
    assert_eq!(networks(&store).await, [Some(network(PASSWORD))]);
}

#[tokio::test]
async fn a_sealed_network_is_no_other_sandboxs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let (victim, thief) = (row(team, Some(network(PASSWORD))), row(team, None));
    store.insert_sandbox(&victim, None).await.unwrap();
    store.insert_sandbox(&thief, None).await.unwrap();
    let steal = "UPDATE sandbox SET \
                 network = (SELECT network FROM sandbox WHERE id = $1), \
                 network_key = (SELECT network_key FROM sandbox WHERE id = $1) WHERE id = $2";
    sql(dir.path(), &[steal], &[victim.id.as_str(), thief.id.as_str()]).await;
    let loaded = store.sandboxes().await.unwrap();
    assert_eq!(loaded.rows.len(), 1);
    assert_eq!(loaded.unreadable[0].0, thief.id.as_str());
}
