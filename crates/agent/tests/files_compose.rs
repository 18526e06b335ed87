//! `POST /files/compose`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod files_support;
mod support;

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use files_support::{Disk, noise, request};
use http::Method;
use serde_json::{Value, json};
use support::{Agent, Answer, agent};

async fn compose(agent: &Agent, order: Value) -> Answer {
    let headers = [("content-type", "application/json")];
    request(agent, Method::POST, "/files/compose", &headers, order.to_string()).await
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn joins_in_order_and_deletes_the_pieces() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (first, second) = (noise(1_234_567), noise(7));
    fs::write(at("1"), &first).unwrap();
    fs::write(at("2"), &second).unwrap();
    fs::write(at("old"), "replaced").unwrap();
    let order = json!({
        "source_paths": [at("2"), at("1")],
        "destination": at("new/whole"),
        "username": "daemon",
    });
    let answer = compose(&agent, order).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.json(), json!({"path": at("new/whole"), "name": "whole", "type": "file"}));
    assert!(fs::read(at("new/whole")).unwrap() == [second, first].concat());
    let made = fs::metadata(at("new/whole")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (1, 0o644));
    assert_eq!(names(dir.path()), ["new", "old"]);

    fs::write(at("3"), "now").unwrap();
    let answer =
        compose(&agent, json!({"source_paths": [at("3")], "destination": at("old")})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(fs::read(at("old")).unwrap(), b"now");
    assert_eq!(names(dir.path()), ["new", "old"]);
}

#[tokio::test]
async fn pieces_may_come_from_another_file_system() {
    let agent = agent();
    let (disk, dir) = (Disk::new(c"size=8m"), tempfile::tempdir().unwrap());
    let content = noise(2_000_000);
    let (source, destination) = (disk.path().join("piece"), dir.path().join("whole"));
    fs::write(&source, &content).unwrap();
    let order = json!({"source_paths": [source], "destination": destination});
    assert_eq!(compose(&agent, order).await.status, 200);
    assert!(fs::read(&destination).unwrap() == content);
}

#[tokio::test]
async fn a_refused_order_changes_nothing() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a"), "a").unwrap();
    fs::create_dir(at("dir")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR).unwrap();
    fs::hard_link(at("a"), at("same")).unwrap();
    let order = |sources: &[&str], destination: &str| {
        let sources: Vec<_> = sources.iter().map(|name| at(name)).collect();
        json!({"source_paths": sources, "destination": at(destination)})
    };
    let mut stranger = order(&["a"], "out");
    stranger["username"] = "nobody-has-this-name".into();
    for (order, status) in [
        (json!({}), 400),
        (json!({"source_paths": [], "destination": "x"}), 400),
        (json!({"source_paths": ["x"]}), 400),
        (json!({"source_paths": "x", "destination": "y"}), 400),
        (json!({"source_paths": ["a\0b"], "destination": "y"}), 400),
        (order(&["a", "missing"], "out"), 404),
        (order(&["a", "dir"], "out"), 400),
        (order(&["a", "fifo"], "out"), 400),
        (order(&["a"], "a"), 400),
        (order(&["a"], "same"), 400),
        (order(&["a"], "dir"), 400),
        (stranger, 401),
    ] {
        let answer = compose(&agent, order.clone()).await;
        assert_eq!(answer.status, status, "{order}: {:?}", answer.body);
        assert_eq!(answer.json()["code"], status);
    }
    let broken = request(&agent, Method::POST, "/files/compose", &[], "{").await;
    assert_eq!(broken.status, 400);
    assert_eq!(agent.get("/files/compose").await.status, 405);
    assert_eq!(names(dir.path()), ["a", "dir", "fifo", "same"]);
}

#[tokio::test]
async fn a_full_disk_keeps_the_pieces_and_no_draft() {
    let agent = agent();
    let disk = Disk::new(c"size=1m");
    let at = |name: &str| disk.path().join(name);
    fs::write(at("1"), vec![1; 400_000]).unwrap();
    fs::write(at("2"), vec![2; 400_000]).unwrap();
    let order = json!({"source_paths": [at("1"), at("2")], "destination": at("whole")});
    assert_eq!(compose(&agent, order).await.status, 507);
    assert_eq!(names(&disk.path()), ["1", "2"]);
}
