//! `filesystem.Filesystem`: the unary methods and their error codes.

#![allow(clippy::unwrap_used, clippy::panic)]

mod files_support;
mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use files_support::{code, ok, rpc};
use serde_json::{Value, json};
use soulbox_agent::Settings;
use support::{agent, agent_with};

/// A user other than root that every Debian has.
const OTHER: &str = "daemon";

fn basic(user: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:")))
}

#[tokio::test]
async fn an_entry_says_everything_about_a_file() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "12345").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let modified =
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_500_000_000);
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();

    let stat = ok(&agent, "Stat", json!({"path": file})).await;
    assert_eq!(
        stat["entry"],
        json!({
            "name": "file", "type": "FILE_TYPE_FILE", "path": file, "size": "5", "mode": 0o640,
            "permissions": "-rw-r-----", "owner": "root", "group": "root",
            "modifiedTime": "1970-01-01T00:00:01.500Z",
        })
    );
    let link = ok(&agent, "Stat", json!({"path": dir.path().join("link")})).await;
    let link = &link["entry"];
    assert_eq!((&link["type"], &link["isSymlink"]), (&json!("FILE_TYPE_FILE"), &json!(true)));
    assert_eq!((&link["symlinkTarget"], &link["mode"]), (&json!(file), &json!(0o640)));
    assert_eq!(link["permissions"], "Lrwxrwxrwx");
    let size = ok(&agent, "Stat", json!({"path": dir.path()})).await["entry"]["size"].clone();
    assert!(size.as_str().unwrap().parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn the_first_python_clients_get_three_fields() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    let headers = [("user-agent", "connect-python")];
    let list = rpc(&agent, "ListDir", &headers, json!({"path": dir.path()})).await;
    let path = dir.path().join("f");
    let brief = json!([{"name": "f", "type": "FILE_TYPE_FILE", "path": path}]);
    assert_eq!(list.json()["entries"], brief);
    assert_eq!(list.header("x-e2b-legacy-sdk"), "true");
}

#[tokio::test]
async fn directories_are_made_with_their_parents_once() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let headers = [("authorization", &*basic(OTHER))];
    let made = rpc(&agent, "MakeDir", &headers, json!({"path": path})).await.json();
    assert_eq!(made["entry"]["type"], "FILE_TYPE_DIRECTORY");
    assert_eq!(made["entry"]["owner"], OTHER);
    assert_eq!(made["entry"]["permissions"], "drwxr-xr-x");
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().uid(), 1);

    fs::write(dir.path().join("file"), "").unwrap();
    symlink("a", dir.path().join("link")).unwrap();
    for (name, expected) in [
        ("a/b", (409, "already_exists")),
        ("link", (409, "already_exists")),
        ("file", (400, "invalid_argument")),
        ("file/below", (500, "internal")),
    ] {
        let (status, code) = code(&agent, "MakeDir", json!({"path": dir.path().join(name)})).await;
        assert_eq!((status, code.as_str()), expected, "{name}");
    }
}

#[tokio::test]
async fn moving_replaces_files_and_makes_parents() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a"), "a").unwrap();
    fs::write(at("b"), "b").unwrap();
    let order = |from: &str, to: &str| json!({"source": at(from), "destination": at(to)});
    let moved = ok(&agent, "Move", order("a", "b")).await;
    assert_eq!(moved["entry"]["path"], json!(at("b")));
    assert_eq!((fs::read(at("b")).unwrap(), at("a").exists()), (b"a".to_vec(), false));
    ok(&agent, "Move", order("b", "x/y/c")).await;
    assert_eq!(fs::read(at("x/y/c")).unwrap(), b"a");
    fs::create_dir_all(at("full/inner")).unwrap();
    for (from, to, expected) in [
        ("missing", "never/made", (404, "not_found")),
        ("x", "full", (500, "internal")),
        ("x", "x/y/z", (400, "invalid_argument")),
    ] {
        let (status, code) = code(&agent, "Move", order(from, to)).await;
        assert_eq!((status, code.as_str()), expected, "{from} to {to}");
    }
    assert!(!at("never").exists());
}

#[tokio::test]
async fn listings_go_down_to_the_depth() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("b/c")).unwrap();
    for name in ["a", "b/x", "b/c/y"] {
        fs::write(at(name), "").unwrap();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
    symlink(dir.path(), at("z")).unwrap();
    let names = async |path: Value, depth: u32| {
        let list = ok(&agent, "ListDir", json!({"path": path, "depth": depth})).await;
        let entries = list["entries"].as_array().cloned().unwrap_or_default();
        let prefix = format!("{}/", path.as_str().unwrap());
        entries
            .iter()
            .map(|entry| entry["path"].as_str().unwrap().strip_prefix(&prefix).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(json!(dir.path()), 0).await, ["a", "b", "pipe", "z"]);
    assert_eq!(names(json!(dir.path()), 2).await, ["a", "b", "b/c", "b/x", "pipe", "z"]);
    assert_eq!(names(json!(at("z")), 1).await, ["a", "b", "pipe", "z"]);
    assert!(names(json!(at("b/c")), u32::MAX).await == ["y"]);
    symlink("loop", at("loop")).unwrap();
    for (name, expected) in [
        ("missing", (404, "not_found")),
        ("a", (400, "invalid_argument")),
        ("loop", (400, "failed_precondition")),
        ("nul\0", (400, "invalid_argument")),
    ] {
        let (status, code) = code(&agent, "ListDir", json!({"path": at(name)})).await;
        assert_eq!((status, code.as_str()), expected, "{name}");
    }
}

#[tokio::test]
async fn ten_thousand_files_are_listed() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    for index in 0..10_000 {
        fs::write(dir.path().join(format!("{index:05}")), "").unwrap();
    }
    let list = ok(&agent, "ListDir", json!({"path": dir.path(), "depth": 1})).await;
    let entries = list["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 10_000);
    assert_eq!((&entries[0]["name"], &entries[9999]["name"]), (&json!("00000"), &json!("09999")));
}

#[tokio::test]
async fn removing_is_thorough_and_forgiving() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("tree/a/b")).unwrap();
    fs::write(at("kept"), "").unwrap();
    symlink(at("kept"), at("tree/a/link")).unwrap();
    symlink("tree", at("link")).unwrap();
    assert_eq!(ok(&agent, "Remove", json!({"path": at("link")})).await, json!({}));
    assert!(at("tree").exists());
    ok(&agent, "Remove", json!({"path": at("tree")})).await;
    ok(&agent, "Remove", json!({"path": at("tree")})).await;
    assert!(at("kept").exists() && !at("tree").exists());
    let (status, refused) = code(&agent, "Remove", json!({"path": "/proc/self"})).await;
    assert_eq!((status, refused.as_str()), (500, "internal"));
    let (status, refused) = code(&agent, "Remove", json!({"path": "/"})).await;
    assert_eq!((status, refused.as_str()), (400, "invalid_argument"));
}

#[tokio::test]
async fn hostile_paths_are_the_callers_fault() {
    let agent = agent();
    for path in ["a\0b", "~nobody/x", &"x".repeat(300), &"y/".repeat(3000)] {
        for method in ["Stat", "MakeDir", "ListDir", "Remove", "CreateWatcher"] {
            let path = if path.len() == 300 { format!("/tmp/{path}") } else { path.to_owned() };
            let (status, code) = code(&agent, method, json!({"path": path})).await;
            assert_eq!((status, code.as_str()), (400, "invalid_argument"), "{method} {path}");
        }
    }
    let missing = code(&agent, "Stat", json!({"path": "/nowhere/at/all"})).await;
    assert_eq!(missing, (404, "not_found".to_owned()));
    let below_file = code(&agent, "Stat", json!({"path": "/etc/passwd/x"})).await;
    assert_eq!(below_file, (500, "internal".to_owned()));
    let broken = rpc(&agent, "Stat", &[], json!({"path": 7})).await;
    assert_eq!((broken.status.as_u16(), &broken.json()["code"]), (400, &json!("invalid_argument")));
}

#[tokio::test]
async fn users_decide_what_relative_paths_mean() {
    let agent = agent();
    let home = |user: &str| {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|line| line.starts_with(&format!("{user}:"))).unwrap();
        line.split(':').nth(5).unwrap().to_owned()
    };
    for user in ["root", OTHER] {
        let headers = [("authorization", &*basic(user))];
        for path in ["~", "", ".", "x/.."] {
            let stat = rpc(&agent, "Stat", &headers, json!({"path": path})).await.json();
            assert_eq!(stat["entry"]["path"], home(user), "{user} {path}");
        }
    }
    let lost = agent_with(Settings { default_user: "ghost".into(), ..Settings::default() });
    let answer = rpc(&lost, "Stat", &[], json!({"path": "/"})).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.json(),
        json!({"code": "unauthenticated", "message": "invalid default user: 'ghost'"})
    );
}
