//! Watching directories, by stream and by polling.

#![allow(clippy::unwrap_used, clippy::panic)]

mod files_support;
mod support;

use std::{fs, path::Path, time::Duration};

use files_support::{Disk, code, ok, upload};
use serde_json::{Value, json};
use support::{Agent, Frames, agent, eventually};
use tokio::time::timeout;

/// A `WatchDir` call; dropping it closes the connection.
struct Watch(Frames);

impl Watch {
    async fn open(agent: &Agent, request: Value, headers: &[(&str, &str)]) -> Self {
        Self(agent.frames("filesystem.Filesystem/WatchDir", headers, request).await.1)
    }

    async fn next(&mut self) -> (u8, Value) {
        self.0.next().await.unwrap()
    }

    async fn started(agent: &Agent, request: Value) -> Self {
        let mut watch = Self::open(agent, request, &[]).await;
        assert_eq!(watch.next().await, (0, json!({"start": {}})));
        watch
    }

    /// The next event as its short type and name.
    async fn event(&mut self) -> (String, String) {
        let (flags, message) = self.next().await;
        assert_eq!(flags, 0, "{message}");
        short(&message["filesystem"])
    }
}

fn short(event: &Value) -> (String, String) {
    let change = event["type"].as_str().unwrap().strip_prefix("EVENT_TYPE_").unwrap();
    (change.to_owned(), event["name"].as_str().unwrap().to_owned())
}

async fn create(agent: &Agent, request: Value) -> String {
    ok(agent, "CreateWatcher", request).await["watcherId"].as_str().unwrap().to_owned()
}

async fn poll(agent: &Agent, id: &str) -> Vec<(String, String)> {
    let polled = ok(agent, "GetWatcherEvents", json!({"watcherId": id})).await;
    polled["events"].as_array().map(|events| events.iter().map(short).collect()).unwrap_or_default()
}

fn told(events: &[(&str, &str)]) -> Vec<(String, String)> {
    events.iter().map(|(change, name)| ((*change).to_owned(), (*name).to_owned())).collect()
}

#[tokio::test]
async fn a_stream_starts_and_then_tells() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("old"), "").unwrap();
    let mut watch = Watch::started(&agent, json!({"path": dir.path(), "includeEntry": true})).await;
    fs::write(dir.path().join("new"), "text").unwrap();
    let (_, created) = watch.next().await;
    assert_eq!(created["filesystem"]["type"], "EVENT_TYPE_CREATE");
    assert_eq!(created["filesystem"]["entry"]["path"], json!(dir.path().join("new")));
    assert_eq!(watch.event().await, ("WRITE".to_owned(), "new".to_owned()));
    fs::remove_file(dir.path().join("new")).unwrap();
    let (_, removed) = watch.next().await;
    assert_eq!(removed, json!({"filesystem": {"type": "EVENT_TYPE_REMOVE", "name": "new"}}));
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let headers = [("keepalive-ping-interval", "1")];
    let mut watch = Watch::open(&agent, json!({"path": dir.path()}), &headers).await;
    assert_eq!(watch.next().await, (0, json!({"start": {}})));
    assert_eq!(watch.next().await, (0, json!({"keepalive": {}})));
    fs::write(dir.path().join("f"), "").unwrap();
    assert_eq!(watch.event().await, ("CREATE".to_owned(), "f".to_owned()));
}

#[tokio::test]
async fn a_stream_that_cannot_start_ends_with_the_reason() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for (name, code) in
        [("missing", "not_found"), ("file", "invalid_argument"), ("nul\0", "invalid_argument")]
    {
        let request = json!({"path": dir.path().join(name)});
        let (flags, end) = Watch::open(&agent, request, &[]).await.next().await;
        assert_eq!((flags, &end["error"]["code"]), (2, &json!(code)), "{name}");
    }
}

#[tokio::test]
async fn what_a_client_did_is_there_at_its_next_poll() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let id = create(&agent, json!({"path": dir.path(), "recursive": true})).await;
    for round in 0..50 {
        let name = format!("d{round}");
        let sub = dir.path().join(&name);
        ok(&agent, "MakeDir", json!({"path": sub})).await;
        upload(&agent, sub.join("f"), &[], "text").await;
        let file = format!("{name}/f");
        let expected = told(&[
            ("CREATE", &name),
            ("CHMOD", &name),
            ("CREATE", &file),
            ("CHMOD", &file),
            ("WRITE", &file),
        ]);
        assert_eq!(poll(&agent, &id).await, expected);
    }
    // Directories that an upload makes are watched before the file is written.
    upload(&agent, dir.path().join("x/y/z"), &[], "text").await;
    let events = poll(&agent, &id).await;
    assert_eq!(events.iter().filter(|event| event.1 == "x/y/z").count(), 3, "{events:?}");
    // A directory that is moved keeps being watched.
    let order = json!({"source": dir.path().join("x"), "destination": dir.path().join("d0/x")});
    ok(&agent, "Move", order).await;
    upload(&agent, dir.path().join("d0/x/y/z"), &[], "more").await;
    let mut events = poll(&agent, &id).await;
    // Emptying the file and filling it are two events, unless nobody read between them.
    events.dedup();
    assert_eq!(
        events,
        told(&[("RENAME", "x"), ("CREATE", "d0/x"), ("CHMOD", "d0/x/y/z"), ("WRITE", "d0/x/y/z")])
    );
}

#[tokio::test]
async fn a_stream_follows_new_directories_too() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Watch::started(&agent, json!({"path": dir.path(), "recursive": true})).await;
    upload(&agent, dir.path().join("a/b/f"), &[], "text").await;
    let mut seen = Vec::new();
    while seen.last() != Some(&("WRITE".to_owned(), "a/b/f".to_owned())) {
        seen.push(watch.event().await);
    }
    for created in ["a", "a/b", "a/b/f"] {
        let event = ("CREATE".to_owned(), created.to_owned());
        assert_eq!(seen.iter().filter(|seen| **seen == event).count(), 1, "{seen:?}");
    }
}

#[tokio::test]
async fn watchers_are_forgotten_when_told() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let id = create(&agent, json!({"path": dir.path()})).await;
    assert_eq!(poll(&agent, &id).await, []);
    ok(&agent, "RemoveWatcher", json!({"watcherId": id})).await;
    for method in ["GetWatcherEvents", "RemoveWatcher"] {
        let request = json!({"watcherId": id});
        assert_eq!(code(&agent, method, request).await, (404, "not_found".to_owned()));
    }
}

fn inotify_descriptors() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    links
        .filter_map(|link| fs::read_link(link.path()).ok())
        .filter(|target| target == Path::new("anon_inode:inotify"))
        .count()
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_watch_along() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let before = inotify_descriptors();
    let mut watches = Vec::new();
    for _ in 0..10 {
        watches.push(Watch::started(&agent, json!({"path": dir.path()})).await);
    }
    let id = create(&agent, json!({"path": dir.path()})).await;
    assert_eq!(inotify_descriptors(), before + 11);
    drop(watches);
    eventually("only the polled watcher is left", async || inotify_descriptors() == before + 1)
        .await;
    ok(&agent, "RemoveWatcher", json!({"watcherId": id})).await;
    eventually("none is left", async || inotify_descriptors() == before).await;
}

#[tokio::test]
async fn a_flood_fails_a_watcher_for_good() {
    let agent = agent();
    let disk = Disk::new(c"size=64m");
    let id = create(&agent, json!({"path": disk.path()})).await;
    let base = disk.path();
    // Long names fill what is kept; nobody polls.
    let flood = tokio::task::spawn_blocking(move || {
        let path = base.join("n".repeat(250));
        for _ in 0..40_000 {
            fs::write(&path, "").unwrap();
            fs::remove_file(&path).unwrap();
        }
    });
    flood.await.unwrap();
    let request = json!({"watcherId": id});
    for _ in 0..2 {
        let answer = code(&agent, "GetWatcherEvents", request.clone()).await;
        assert_eq!(answer, (500, "internal".to_owned()));
    }
    ok(&agent, "RemoveWatcher", request).await;
    let again = create(&agent, json!({"path": disk.path()})).await;
    fs::write(disk.path().join("f"), "").unwrap();
    assert_eq!(poll(&agent, &again).await, told(&[("CREATE", "f")]));
}

#[tokio::test]
async fn a_deadline_ends_the_stream() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let headers = [("connect-timeout-ms", "300")];
    let mut watch = Watch::open(&agent, json!({"path": dir.path()}), &headers).await;
    assert_eq!(watch.next().await, (0, json!({"start": {}})));
    let ended = timeout(Duration::from_secs(10), watch.next()).await.unwrap();
    assert_eq!((ended.0, &ended.1["error"]["code"]), (2, &json!("deadline_exceeded")));
}
