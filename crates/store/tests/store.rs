//! The store on real files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::json;
use soulbox_model::{Error as ModelError, Resources, SandboxId, TeamId};
use soulbox_store::{Error, Idempotency, KeyHash, SandboxRow, SandboxState, Store};

async fn open(dir: &Path) -> Store {
    Store::open(dir.join("soulbox.db")).await.unwrap()
}

fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

fn row(team: TeamId) -> SandboxRow {
    SandboxRow {
        id: SandboxId::random(),
        team,
        template_id: "base".parse().unwrap(),
        template_name: "base".into(),
        alias: Some("base".into()),
        state: SandboxState::Creating,
        metadata: BTreeMap::from([("ключ".into(), "it's \"quoted\"; DROP TABLE".into())]),
        resources: Resources::default(),
        started_at: now(),
        end_at: now() + TimeDelta::minutes(5),
        secure: true,
        auto_pause: false,
        allow_internet: Some(false),
        network: Some(soulbox_model::network::Network::default()),
        authority: None,
        envd_version: "0.6.13".into(),
        record: None,
    }
}

fn request(key: &str) -> Idempotency {
    Idempotency { key: key.into(), request_hash: format!("hash of {key}") }
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().clone();
    let token = store.secret().derive("test", b"x");
    let key = store.create_key(team.id, "laptop", Some("ann")).await.unwrap();
    let mut expected = row(team.id);
    expected.record = Some(json!({ "pid": 7 }));
    store.insert_sandbox(&expected, Some(&request("job"))).await.unwrap();
    store.set_running(&expected.id).await.unwrap();
    expected.state = SandboxState::Running;
    store.close().await;

    let store = open(dir.path()).await;
    assert_eq!(*store.default_team(), team);
    assert_eq!(store.teams().await.unwrap(), std::slice::from_ref(&team));
    assert_eq!(store.secret().derive("test", b"x"), token);
    assert_eq!(store.list_keys(team.id).await.unwrap(), [key.key]);
    let loaded = store.sandboxes().await.unwrap();
    assert_eq!(loaded.rows, [expected.clone()]);
    let known = store.find_idempotency(team.id, "job").await.unwrap().unwrap();
    assert_eq!((known.sandbox, known.request_hash), (expected.id, "hash of job".into()));
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.create_key(store.default_team().id, "k", None).await.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
        seen += 1;
    }
    assert_eq!(seen, 5, "database, its two side files, the secret, the keys of secrets");
}

#[tokio::test]
async fn the_plain_key_is_nowhere_in_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let new = store.create_key(store.default_team().id, "k", None).await.unwrap();
    let hash = KeyHash::of(&new.plain).unwrap();
    assert_eq!(store.find_key(hash).await.unwrap(), Some(new.key.clone()));
    store.close().await;
    let bytes = std::fs::read(dir.path().join("soulbox.db")).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&new.key.id.to_string()), "this looks at the right bytes");
    assert!(!holds(&new.plain["e2b_".len()..]));
}

#[tokio::test]
async fn a_key_is_renamed_used_and_revoked_by_its_team_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let new = store.create_key(team, "a", None).await.unwrap();
    let stranger = TeamId::random();
    assert!(!store.rename_key(stranger, new.key.id, "b").await.unwrap());
    assert!(!store.revoke_key(stranger, new.key.id).await.unwrap());
    assert!(store.rename_key(team, new.key.id, "b").await.unwrap());
    let used = now();
    store.touch_keys(&[(new.key.id, used), (uuid::Uuid::nil(), used)]).await.unwrap();
    let listed = store.list_keys(team).await.unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].last_used_at), ("b", Some(used)));
    assert!(store.revoke_key(team, new.key.id).await.unwrap());
    assert!(!store.revoke_key(team, new.key.id).await.unwrap());
    assert_eq!(store.find_key(KeyHash::of(&new.plain).unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn the_first_key_is_made_once_and_lies_in_a_private_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let file = dir.path().join("api-key");
    // What a crash in between leaves: a file whose key nobody knows.
    std::fs::write(&file, "e2b_stale").unwrap();
    assert!(store.ensure_first_key(&file, "first").await.unwrap());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let plain = std::fs::read_to_string(&file).unwrap();
    let hash = KeyHash::of(plain.trim_end()).unwrap();
    let found = store.find_key(hash).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.team), ("first", store.default_team().id));
    assert!(!store.ensure_first_key(&file, "first").await.unwrap());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), plain);
}

#[tokio::test]
async fn an_idempotency_key_is_one_request_of_one_team() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let (first, second) = (row(team), row(team));
    store.insert_sandbox(&first, Some(&request("job"))).await.unwrap();
    let error = store.insert_sandbox(&second, Some(&request("job"))).await.unwrap_err();
    assert!(matches!(error, Error::Taken(_)), "{error}");
    assert_eq!(ModelError::from(error).http_status(), 409);
    assert_eq!(store.sandboxes().await.unwrap().rows.len(), 1, "nothing of the second is left");
    let error = store.insert_sandbox(&first, None).await.unwrap_err();
    assert!(matches!(error, Error::Taken(_)), "{error}");
    assert_eq!(store.find_idempotency(TeamId::random(), "job").await.unwrap(), None);
}

#[tokio::test]
async fn keys_of_failed_requests_are_forgotten_and_those_of_ended_sandboxes_kept_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let (failed, ended, lives) = (row(team), row(team), row(team));
    for (row, key) in [(&failed, "failed"), (&ended, "ended"), (&lives, "lives")] {
        store.insert_sandbox(row, Some(&request(key))).await.unwrap();
    }
    store.forget_sandbox(failed.id.as_str()).await.unwrap();
    store.delete_sandbox(&ended.id).await.unwrap();
    let found = async |key| store.find_idempotency(team, key).await.unwrap().is_some();
    assert!(!found("failed").await && found("ended").await && found("lives").await);
    assert_eq!(store.prune_idempotency(now() - TimeDelta::hours(1)).await.unwrap(), 0);
    assert_eq!(store.prune_idempotency(now() + TimeDelta::seconds(1)).await.unwrap(), 1);
    assert!(!found("ended").await && found("lives").await);
}

#[tokio::test]
async fn a_sandbox_that_ends_does_not_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let sandbox = row(store.default_team().id);
    let state = async || store.sandboxes().await.unwrap().rows[0].state;
    store.insert_sandbox(&sandbox, None).await.unwrap();
    assert_eq!(state().await, SandboxState::Creating);
    store.set_running(&sandbox.id).await.unwrap();
    assert_eq!(state().await, SandboxState::Running);
    store.set_ending(&sandbox.id).await.unwrap();
    store.set_running(&sandbox.id).await.unwrap();
    assert_eq!(state().await, SandboxState::Ending);
}

#[tokio::test]
async fn a_sandbox_belongs_to_a_team_that_exists() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    assert!(store.insert_sandbox(&row(TeamId::random()), None).await.is_err());
    assert!(store.create_key(TeamId::random(), "k", None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_may_have_it_open_from_the_first_moment() {
    let dir = tempfile::tempdir().unwrap();
    let stores = futures::future::join_all((0..4).map(|_| {
        let path = dir.path().to_owned();
        async move { tokio::spawn(async move { open(&path).await }).await.unwrap() }
    }))
    .await;
    let team = stores[0].default_team().id;
    assert!(stores.iter().all(|store| store.default_team().id == team));
    let writes = stores.iter().flat_map(|store| {
        (0..25).map(move |_| async move { store.insert_sandbox(&row(team), None).await })
    });
    for result in futures::future::join_all(writes).await {
        result.unwrap();
    }
    assert_eq!(stores[3].sandboxes().await.unwrap().rows.len(), 100);
}

#[tokio::test]
async fn what_is_no_database_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let list = "this is a shopping list, not a database. ".repeat(100);
    std::fs::write(dir.path().join("soulbox.db"), list).unwrap();
    let error = Store::open(dir.path().join("soulbox.db")).await.unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
    let error = Store::open(dir.path().join("missing/soulbox.db")).await.unwrap_err();
    assert!(error.to_string().contains("missing/secret.key"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("soulbox.db"));
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', TRUE, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let error = Store::open(dir.path().join("soulbox.db")).await.unwrap_err();
    assert!(matches!(error, Error::Migration(_)), "{error}");
    assert!(error.to_string().contains("9999"), "{error}");
}

/// The figures that this prints are the price of a create; the bound is far above them.
#[tokio::test(flavor = "multi_thread")]
async fn writes_are_cheap_and_a_checkpoint_does_not_stop_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let record = json!({ "pid": 12345, "start": 987_654_321u64, "cgroup": "/soulbox/x" });
    let made = || SandboxRow { record: Some(record.clone()), ..row(team) };
    let rows: Vec<_> = (0..400).map(|_| made()).collect();
    let (mut inserts, mut updates) = (Vec::new(), Vec::new());
    for row in &rows {
        let start = Instant::now();
        store.insert_sandbox(row, None).await.unwrap();
        inserts.push(start.elapsed());
        let start = Instant::now();
        store.set_running(&row.id).await.unwrap();
        updates.push(start.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (insert, update) = (median(&mut inserts), median(&mut updates));
    let slowest = inserts.last().max(updates.last()).copied();
    let start = Instant::now();
    let deletes = rows.iter().map(|row| store.delete_sandbox(&row.id));
    let (checkpoint, deleted) =
        futures::future::join(store.checkpoint(), futures::future::join_all(deletes)).await;
    checkpoint.unwrap();
    deleted.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    let burst = start.elapsed();
    eprintln!("insert {insert:?}, update {update:?}, slowest {slowest:?}, 400 deletes {burst:?}");
    assert!(insert + update < Duration::from_millis(200), "{insert:?} {update:?}");
    assert!(store.sandboxes().await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_passing_team_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.make_passing_team("check").await.unwrap();
    let made = store.create_key(team, "check", None).await.unwrap();
    assert_ne!(team, store.default_team().id);
    assert_eq!(store.list_keys(team).await.unwrap().len(), 1);
    assert_eq!(store.list_keys(store.default_team().id).await.unwrap().len(), 0);

    store.remove_passing_team(team).await.unwrap();
    assert_eq!(store.teams().await.unwrap().len(), 1);
    let hash = KeyHash::of(&made.plain).unwrap();
    assert!(store.find_key(hash).await.unwrap().is_none());
}

#[tokio::test]
async fn a_name_leads_to_one_sandbox_and_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let other_team = store.create_team("other", "Other").await.unwrap().id;
    let (mine, theirs) = (row(store.default_team().id), row(other_team));
    store.insert_sandbox(&mine, None).await.unwrap();
    store.insert_sandbox(&theirs, None).await.unwrap();
    let port = soulbox_model::Port::new(3000).unwrap();
    let names = ["a.example", "b.example"].map(|name| name.parse().unwrap());
    assert!(store.set_domains(&mine.id, &names, port).await.unwrap());
    assert!(store.set_domains(&mine.id, &names, port).await.unwrap());
    // All or nothing.
    let wanted = ["c.example".parse().unwrap(), names[1].clone()];
    let refused = store.set_domains(&theirs.id, &wanted, port).await;
    let refused = ModelError::from(refused.unwrap_err());
    assert_eq!((refused.code(), refused.http_status()), ("SB-CONFLICT", 409));
    assert!(!refused.to_string().contains(mine.id.as_str()), "{refused}");
    store.close().await;
    let store = open(dir.path()).await;
    let held: Vec<_> = store.domains().await.unwrap().into_iter().map(|row| row.sandbox).collect();
    assert_eq!(held, [mine.id.clone(), mine.id.clone()]);
    // One that ends holds none any more, nor does it get one; its team keeps them for a while.
    let next = row(store.default_team().id);
    store.insert_sandbox(&next, None).await.unwrap();
    store.set_ending(&mine.id).await.unwrap();
    assert!(store.set_domains(&theirs.id, &names[1..], port).await.is_err());
    assert!(store.set_domains(&next.id, &names[1..], port).await.unwrap());
    // Given up, they are anybody's.
    assert!(store.set_domains(&next.id, &[], port).await.unwrap());
    assert!(store.set_domains(&theirs.id, &names[1..], port).await.unwrap());
    assert!(!store.set_domains(&mine.id, &names, port).await.unwrap());
    store.delete_sandbox(&theirs.id).await.unwrap();
    assert_eq!(store.domains().await.unwrap().len(), 1);
    assert!(!store.set_domains(&SandboxId::random(), &names, port).await.unwrap());
}

/// Holds the write lock of the database in `dir`, as another process would, until it is dropped.
async fn hold(dir: &Path) -> sqlx::SqliteConnection {
    use sqlx::{ConnectOptions, Executor};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("soulbox.db"));
    let mut other = options.connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    other
}

#[tokio::test]
async fn a_write_waits_for_another_process_longer_than_one_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let row = row(store.default_team().id);
    let other = hold(dir.path()).await;
    let free = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(other);
    };
    let began = Instant::now();
    let key = request("k");
    let (added, ()) = tokio::join!(store.insert_sandbox(&row, Some(&key)), free);
    added.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    // Refused for good, it is not tried again.
    let began = Instant::now();
    assert!(matches!(store.insert_sandbox(&row, None).await, Err(Error::Taken(_))));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_database_that_stays_busy_is_given_up_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let other = hold(dir.path()).await;
    let began = Instant::now();
    let refused = store.create_team("other", "Other").await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let refused = ModelError::from(refused);
    assert_eq!((refused.code(), refused.retryable()), ("SB-UNAVAILABLE", true));
    let cause = std::error::Error::source(&refused).map(ToString::to_string).unwrap();
    assert!(cause.contains("make a team") && cause.contains("locked"), "{cause}");
    // Whoever stops waiting is free at once, and nothing is left half done.
    let began = Instant::now();
    let cancelled = store.create_team("third", "Third");
    assert!(tokio::time::timeout(Duration::from_millis(50), cancelled).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    drop(other);
    assert!(store.find_team("other").await.unwrap().is_none());
    store.create_team("other", "Other").await.unwrap();
}
