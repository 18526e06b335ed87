//! Secrets on real files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{collections::BTreeMap, path::Path};

use soulbox_model::{SecretValue, TeamId};
use soulbox_store::{Error, NewSecret, Secret, SecretChange, SecretRef, Store};

const VALUE: &str = "correct horse battery staple";

async fn open(dir: &Path) -> Store {
    Store::open(dir.join("soulbox.db")).await.unwrap()
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.into()).unwrap()
}

fn new(name: &str, text: &str) -> NewSecret {
    NewSecret {
        name: name.parse().unwrap(),
        value: value(text),
        metadata: BTreeMap::from([("for".into(), "tests".into())]),
        hosts: vec!["*.example.com".parse().unwrap()],
    }
}

fn named(name: &str) -> SecretRef {
    SecretRef::Name(name.parse().unwrap())
}

async fn read(store: &Store, team: TeamId, name: &str) -> Option<(Secret, String)> {
    let found = store.open_secret(team, &named(name)).await.unwrap();
    found.map(|(secret, value)| (secret, value.expose().to_owned()))
}

/// Statements on the file beside the store, as an attacker who can write it would give.
async fn sql(dir: &Path, statement: &'static str) {
    let url = format!("sqlite://{}", dir.join("soulbox.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

fn holds(dir: &Path, needle: &str) -> Vec<String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let bytes = std::fs::read(path).unwrap();
            bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
        })
        .map(|path| path.display().to_string())
        .collect()
}

#[tokio::test]
async fn a_secret_survives_a_restart_and_its_value_is_in_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let made = store.create_secret(team, new("Api-Key", VALUE)).await.unwrap();
    assert_eq!((made.name.as_str(), made.version), ("api-key", 1));
    let found = store.find_secret(team, &SecretRef::Id(made.id.clone())).await.unwrap();
    assert_eq!(found.as_ref(), Some(&made));
    for encoded in [VALUE.to_owned(), hex::encode(VALUE)] {
        assert_eq!(holds(dir.path(), &encoded), Vec::<String>::new());
    }
    store.close().await;
    let store = open(dir.path()).await;
    assert_eq!(read(&store, team, "API-KEY").await.unwrap(), (made, VALUE.to_owned()));
    assert_eq!(holds(dir.path(), VALUE), Vec::<String>::new());
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let made = store.create_secret(team, new("k", "one")).await.unwrap();
    let change = SecretChange { value: Some(value("two")), ..SecretChange::default() };
    let changed = store.change_secret(team, &named("k"), change).await.unwrap().unwrap();
    assert_eq!(changed.version, 2);
    assert_eq!((&changed.metadata, &changed.hosts), (&made.metadata, &made.hosts));
    assert!(changed.updated_at >= made.updated_at && changed.created_at == made.created_at);
    let change = SecretChange {
        hosts: Some(Vec::new()),
        metadata: Some(BTreeMap::new()),
        ..SecretChange::default()
    };
    store.change_secret(team, &named("k"), change).await.unwrap().unwrap();
    let (secret, text) = read(&store, team, "k").await.unwrap();
    assert_eq!((secret.version, text.as_str()), (2, "two"));
    assert!(secret.hosts.is_empty() && secret.metadata.is_empty());

    let taken = store.create_secret(team, new("K", "x")).await.unwrap_err();
    assert!(matches!(taken, Error::Taken(_)), "{taken}");
    let none = store.change_secret(team, &named("other"), SecretChange::default()).await.unwrap();
    assert_eq!(none, None);
    assert!(store.delete_secret(team, &named("k")).await.unwrap());
    assert!(!store.delete_secret(team, &named("k")).await.unwrap());
    assert_eq!(read(&store, team, "k").await, None);
}

#[tokio::test]
async fn another_team_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    let made = store.create_secret(team, new("k", "one")).await.unwrap();
    let other = TeamId::random();
    for which in [named("k"), SecretRef::Id(made.id.clone())] {
        assert_eq!(store.find_secret(other, &which).await.unwrap(), None);
        assert!(store.open_secret(other, &which).await.unwrap().is_none());
        let change = SecretChange { hosts: Some(Vec::new()), ..SecretChange::default() };
        assert_eq!(store.change_secret(other, &which, change).await.unwrap(), None);
        assert!(!store.delete_secret(other, &which).await.unwrap());
    }
    assert_eq!(store.list_secrets(other, None, 10).await.unwrap(), Vec::new());
    assert_eq!(store.list_secrets(team, None, 10).await.unwrap(), vec![made]);
}

#[tokio::test]
async fn lists_go_on_where_a_page_ended() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    for name in ["b", "a", "d", "c"] {
        store.create_secret(team, new(name, "x")).await.unwrap();
    }
    let names = async |after: Option<&str>, limit| -> Vec<String> {
        let after = after.map(|name| name.parse().unwrap());
        let listed = store.list_secrets(team, after.as_ref(), limit).await.unwrap();
        listed.into_iter().map(|secret| secret.name.into()).collect()
    };
    assert_eq!(names(None, 3).await, ["a", "b", "c"]);
    assert_eq!(names(Some("c"), 3).await, ["d"]);
}

#[tokio::test]
async fn who_can_write_the_database_cannot_turn_a_secret_to_other_uses() {
    for attack in [
        "UPDATE secret SET hosts = '[\"evil.example.net\"]' WHERE name = 'a'",
        "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = 'b') WHERE name = 'a'",
        "UPDATE secret SET version = 7 WHERE name = 'a'",
        "UPDATE secret SET name = 'z' WHERE name = 'a'",
        "UPDATE secret SET sealed = replace(sealed, substr(sealed, 30, 2), '00') WHERE name = 'a'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        let team = store.default_team().id;
        store.create_secret(team, new("a", "one")).await.unwrap();
        store.create_secret(team, new("b", "two")).await.unwrap();
        sql(dir.path(), attack).await;
        let name = if attack.contains("'z'") { "z" } else { "a" };
        let refused = store.open_secret(team, &named(name)).await.unwrap_err();
        assert!(matches!(refused, Error::Corrupt { .. }), "{attack}: {refused}");
        assert!(!format!("{refused:?} {refused}").contains("one"));
        assert_eq!(read(&store, team, "b").await.unwrap().1, "two");
    }
}

fn keys(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("vault.key")).unwrap().lines().count()
}

#[tokio::test]
async fn a_new_key_seals_everything_and_the_old_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path()).await;
    let team = server.default_team().id;
    server.create_secret(team, new("a", "one")).await.unwrap();
    let before = std::fs::read_to_string(dir.path().join("vault.key")).unwrap();

    // Another process, as the command line is.
    let command = open(dir.path()).await;
    let rotated = command.rotate_vault_key().await.unwrap();
    assert_eq!(rotated.secrets, 1);
    let after = std::fs::read_to_string(dir.path().join("vault.key")).unwrap();
    assert!(after.starts_with(&rotated.key_id) && keys(dir.path()) == 1 && before != after);

    assert_eq!(read(&server, team, "a").await.unwrap().1, "one");
    server.create_secret(team, new("b", "two")).await.unwrap();
    assert_eq!(read(&command, team, "b").await.unwrap().1, "two");
}

#[tokio::test]
async fn a_rotation_that_broke_off_loses_nothing_and_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let team = store.default_team().id;
    store.create_secret(team, new("a", "one")).await.unwrap();
    let old = std::fs::read_to_string(dir.path().join("vault.key")).unwrap();
    store.rotate_vault_key().await.unwrap();
    let new_key = std::fs::read_to_string(dir.path().join("vault.key")).unwrap();

    // It stopped before the old key went: both are there.
    std::fs::write(dir.path().join("vault.key"), format!("{new_key}{old}")).unwrap();
    let again = open(dir.path()).await;
    assert_eq!(read(&again, team, "a").await.unwrap().1, "one");

    // It stopped before anything was sealed anew: a fresh key stands before the one in use.
    let unused = format!("00112233445566ff {}", "ab".repeat(32));
    std::fs::write(dir.path().join("vault.key"), format!("{unused}\n{new_key}")).unwrap();
    let again = open(dir.path()).await;
    assert_eq!(read(&again, team, "a").await.unwrap().1, "one");
    again.create_secret(team, new("b", "two")).await.unwrap();
    again.rotate_vault_key().await.unwrap();
    assert_eq!(keys(dir.path()), 1);
    assert_eq!(read(&again, team, "a").await.unwrap().1, "one");
    assert_eq!(read(&again, team, "b").await.unwrap().1, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_rotations_at_once_lose_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path()).await;
    let team = server.default_team().id;
    let command = open(dir.path()).await;
    let rotating = tokio::spawn(async move {
        for _ in 0..10 {
            command.rotate_vault_key().await.unwrap();
        }
    });
    for n in 0..40 {
        server.create_secret(team, new(&format!("s{n}"), &format!("value {n}"))).await.unwrap();
    }
    rotating.await.unwrap();
    let fresh = open(dir.path()).await;
    for n in 0..40 {
        let expected = format!("value {n}");
        assert_eq!(read(&server, team, &format!("s{n}")).await.unwrap().1, expected);
        assert_eq!(read(&fresh, team, &format!("s{n}")).await.unwrap().1, expected);
    }
}

#[tokio::test]
async fn teams_are_made_once_and_have_fit_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let made = store.create_team("research-2", "Research ☃").await.unwrap();
    assert_eq!(store.find_team("research-2").await.unwrap().as_ref(), Some(&made));
    assert_eq!(store.find_team("other").await.unwrap(), None);
    assert_eq!(store.teams().await.unwrap().last(), Some(&made));
    for taken in ["research-2", "default"] {
        assert!(matches!(store.create_team(taken, "x").await, Err(Error::Taken(_))), "{taken}");
    }
    let long = "x".repeat(64);
    for (slug, name) in
        [("", "x"), ("A", "x"), ("a_b", "x"), ("-a", "x"), ("a-", "x"), (&*long, "x"), ("ok", " ")]
    {
        let refused = store.create_team(slug, name).await.unwrap_err();
        assert_eq!(soulbox_model::Error::from(refused).http_status(), 400, "{slug}");
    }
    store.create_secret(made.id, new("k", "one")).await.unwrap();
    let first = store.default_team().id;
    assert_eq!(store.find_secret(first, &named("k")).await.unwrap(), None);
    store.create_secret(first, new("k", "two")).await.unwrap();
    assert_eq!(read(&store, made.id, "k").await.unwrap().1, "one");
    assert_eq!(read(&store, first, "k").await.unwrap().1, "two");
}
