//! `POST /files` as clients use it, and as they should not.

#![allow(clippy::unwrap_used, clippy::panic)]

mod files_support;
mod support;

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    time::Duration,
};

use files_support::{
    BINARY, Disk, download, files, form, noise, ok, part, request, upload, upload_form,
};
use flate2::{Compression, write::GzEncoder};
use http::Method;
use rustix::mount::{MountFlags, mount_remount};
use serde_json::json;
use support::{agent, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A user other than root that every Debian has.
const OTHER: &str = "daemon";

#[tokio::test]
async fn a_new_file_belongs_to_the_user_it_is_written_for() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a/b/c.txt");
    let uri = format!("{}&username={OTHER}", files(&file));
    let answer = request(&agent, Method::POST, &uri, &[("content-type", BINARY)], "text").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!([{"path": file, "name": "c.txt", "type": "file"}]));
    assert_eq!(fs::read(&file).unwrap(), b"text");
    let owner = fs::metadata(&file).unwrap();
    assert_eq!((owner.uid(), owner.gid(), owner.mode() & 0o777), (1, 1, 0o644));
    for parent in ["a", "a/b"] {
        let made = fs::metadata(dir.path().join(parent)).unwrap();
        assert_eq!((made.uid(), made.mode() & 0o777), (1, 0o755));
    }
    assert_eq!(fs::metadata(dir.path()).unwrap().uid(), 0, "what was there keeps its owner");
}

#[tokio::test]
async fn an_existing_file_keeps_its_inode_and_mode() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script");
    fs::write(&file, "much longer than what comes").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o750)).unwrap();
    symlink("script", dir.path().join("link")).unwrap();
    let before = fs::metadata(&file).unwrap();
    assert_eq!(upload(&agent, dir.path().join("link"), &[], "new").await.status, 200);
    let after = fs::metadata(&file).unwrap();
    assert_eq!((before.ino(), after.mode() & 0o777), (after.ino(), 0o750));
    assert_eq!(fs::read(&file).unwrap(), b"new");
}

#[tokio::test]
async fn a_form_may_carry_many_files() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().to_str().unwrap();
    let large = noise(3_000_000);
    let body = form(&[
        part(&format!("name=\"file\"; filename=\"{base}/x/one\""), b"1"),
        part("name=\"other\"; filename=\"ignored\"", b"no"),
        part(&format!("name=\"file\"; filename=\"{base}/\u{fc} %22\\\\.bin\""), &large),
        part(&format!("name=\"file\"; filename=\"{base}/empty\""), b""),
    ]);
    let answer = upload_form(&agent, "/files", body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let json = answer.json();
    let names: Vec<_> = json.as_array().unwrap().iter().map(|file| &file["name"]).collect();
    assert_eq!(names, ["one", "\u{fc} %22\\.bin", "empty"]);
    assert_eq!(fs::read(dir.path().join("x/one")).unwrap(), b"1");
    assert!(fs::read(dir.path().join("\u{fc} %22\\.bin")).unwrap() == large);
    assert_eq!(fs::read(dir.path().join("empty")).unwrap(), b"");
    assert!(!Path::new("ignored").exists());
}

#[tokio::test]
async fn the_path_in_the_query_wins_over_the_file_name() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("here");
    for disposition in ["name=\"file\"", "name=\"file\"; filename=\"elsewhere\"", "name=file"] {
        let body = form(&[part(disposition, disposition.as_bytes())]);
        assert_eq!(upload_form(&agent, &files(&file), body).await.status, 200);
        assert_eq!(fs::read(&file).unwrap(), disposition.as_bytes());
    }
    let twice = form(&[part("name=\"file\"", b"first"), part("name=\"file\"", b"second")]);
    let answer = upload_form(&agent, &files(&file), twice).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["message"].as_str().unwrap().contains("same path"));
    assert_eq!(fs::read(&file).unwrap(), b"first");
    let nameless = form(&[part("name=\"file\"", b"x")]);
    assert_eq!(upload_form(&agent, "/files", nameless).await.status, 400);
}

#[tokio::test]
async fn compressed_bodies_are_unfolded() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let content = noise(2_500_000);
    let gzip = [("content-encoding", "gzip")];
    assert_eq!(upload(&agent, &file, &gzip, zip(&content)).await.status, 200);
    assert!(fs::read(&file).unwrap() == content);

    let headers = [("content-type", "multipart/form-data; boundary=XX"), gzip[0]];
    let body = zip(&form(&[part("name=\"file\"", b"in a form")]));
    assert_eq!(request(&agent, Method::POST, &files(&file), &headers, body).await.status, 200);
    assert_eq!(fs::read(&file).unwrap(), b"in a form");

    for (coding, body) in [
        ("gzip", b"plain".to_vec()),
        ("gzip", zip(&content)[..1000].to_vec()),
        ("gzip", Vec::new()),
        ("br", b"plain".to_vec()),
        ("gzip, gzip", zip(&zip(b"x"))),
    ] {
        let answer = upload(&agent, &file, &[("content-encoding", coding)], body).await;
        assert_eq!(answer.status, 400, "{coding}");
    }
    let identity = [("content-encoding", "identity")];
    assert_eq!(upload(&agent, &file, &identity, "as it is").await.status, 200);
}

#[tokio::test]
async fn metadata_is_kept_replaced_and_bounded() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let first = [("X-Metadata-Author", "me & you"), ("x-metadata-k", "1")];
    let answer = upload(&agent, &file, &first, "x").await;
    let expected = json!({"author": "me & you", "k": "1"});
    assert_eq!(answer.json()[0]["metadata"], expected);
    let stat = ok(&agent, "Stat", json!({"path": file})).await;
    assert_eq!(stat["entry"]["metadata"], expected);

    let answer = upload(&agent, &file, &[("x-metadata-k", "2")], "x").await;
    assert_eq!(answer.json()[0]["metadata"], json!({"k": "2"}));
    let answer = upload(&agent, &file, &[], "x").await;
    assert_eq!(answer.json()[0].get("metadata"), None);

    let key = format!("x-metadata-{}", "k".repeat(246));
    let answer = upload(&agent, &file, &[(&key, "v")], "x").await;
    assert_eq!(answer.json()[0]["metadata"], json!({"k".repeat(246): "v"}));
    let value = "v".repeat(4096 - 9 - 246);
    let longer_key = format!("{key}k");
    let longer_value = format!("{value}v");
    for (key, value) in [
        (key.as_str(), longer_value.as_str()),
        (&longer_key, "v"),
        ("x-metadata-", "v"),
        ("x-metadata-k", "tab\tbed"),
        ("x-metadata-k", "\u{fc}"),
    ] {
        let answer = upload(&agent, &file, &[(key, value)], "refused").await;
        assert_eq!(answer.status, 400, "{key}: {value}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"x", "a refused upload changes nothing");
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "kept").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RWXU).unwrap();
    symlink("loop", at("loop")).unwrap();
    for (path, status, message) in [
        (at(""), 400, "is a directory"),
        (at("new/"), 400, "is a directory"),
        (at("fifo"), 400, "not a regular file"),
        ("/dev/full".into(), 400, "not a regular file"),
        (at("file/below"), 500, "Not a directory"),
        (at("loop"), 400, "symbolic links"),
        (at("nul\0"), 400, "NUL"),
        ("~nobody/x".into(), 400, "user-specific home"),
        (at(&"x".repeat(300)), 400, "too long"),
        (format!("/{}", "y/".repeat(3000)).into(), 400, "bytes long"),
        ("".into(), 400, "path query parameter is required"),
    ] {
        let answer = upload(&agent, &path, &[], "text").await;
        assert_eq!(answer.status, status, "{path:?}: {:?}", answer.body);
        let text = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(text.contains(message), "{path:?}: {text}");
    }
    for content_type in ["", "text/plain", "multipart/form-data", "multipart", "application/x"] {
        let headers = [("content-type", content_type)];
        let answer = request(&agent, Method::POST, &files(at("no")), &headers, "text").await;
        assert_eq!(answer.status, 400, "{content_type}");
    }
    for body in ["", "--XX", "--XX\r\nContent-Disposition: form-data; name=file\r\n\r\nhalf"] {
        assert_eq!(upload_form(&agent, &files(at("half")), body).await.status, 400, "{body}");
    }
    let uri = format!("{}&username=nobody-has-this-name", files(at("no")));
    let answer = request(&agent, Method::POST, &uri, &[("content-type", BINARY)], "text").await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.json()["message"],
        "error looking up user 'nobody-has-this-name': user: unknown user nobody-has-this-name"
    );
    assert!(!at("no").exists());
    assert_eq!(fs::read(at("file")).unwrap(), b"kept");
    let parameters = [("content-type", "Application/Octet-Stream; charset=x")];
    let answer = request(&agent, Method::POST, &files(at("ok")), &parameters, "text").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_full_disk_is_507_however_much_was_sent() {
    let agent = agent();
    let disk = Disk::new(c"size=1m");
    for length in [2 << 20, 40 << 20] {
        let answer = upload(&agent, disk.path().join("large"), &[], vec![7; length]).await;
        assert_eq!(answer.status, 507);
        let text = answer.json()["message"].as_str().unwrap().to_owned();
        let expected =
            format!("attempted to write {length} bytes: not enough disk space available");
        assert!(text.starts_with(&expected), "{text}");
    }
    // A client that reads the answer only after it has sent everything.
    let mut stream = begin(&agent, &disk.path().join("large"), 64 << 20).await;
    stream.write_all(&vec![7; 64 << 20]).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 507");
    // A small body that unfolds to more than there is.
    let bomb = zip(&vec![0; 64 << 20]);
    let gzip = [("content-encoding", "gzip")];
    assert_eq!(upload(&agent, disk.path().join("bomb"), &gzip, bomb).await.status, 507);

    let inodes = Disk::new(c"nr_inodes=3");
    let mut statuses = Vec::new();
    for name in ["a", "b", "c"] {
        statuses.push(upload(&agent, inodes.path().join(name), &[], "").await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 507]);
    let below = upload(&agent, inodes.path().join("d/e"), &[], "").await;
    assert_eq!(below.status, 507);

    mount_remount(disk.path(), MountFlags::RDONLY, "").unwrap();
    for path in ["new", "large", "new/deep"] {
        let answer = upload(&agent, disk.path().join(path), &[], "").await;
        assert_eq!(answer.status, 403, "{path}");
        let text = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(text.contains("Read-only file system"), "{text}");
    }
}

#[tokio::test]
async fn one_small_upload_is_three_events_at_the_next_poll() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let created = ok(&agent, "CreateWatcher", json!({"path": dir.path()})).await;
    let id = created["watcherId"].as_str().unwrap();
    let changes = async || {
        let polled = ok(&agent, "GetWatcherEvents", json!({"watcherId": id})).await;
        let events = polled["events"].as_array().cloned().unwrap_or_default();
        events
            .iter()
            .map(|event| event["type"].as_str().unwrap().replace("EVENT_TYPE_", ""))
            .collect::<Vec<_>>()
    };
    for round in 0..100 {
        let name = format!("file-{round}");
        let path = dir.path().join(&name);
        let answer = match round % 3 {
            0 => upload(&agent, &path, &[], "text").await,
            1 => upload(&agent, &path, &[("content-encoding", "gzip")], zip(b"text")).await,
            _ => {
                let body = form(&[part("name=\"file\"", b"text")]);
                upload_form(&agent, &files(&path), body).await
            }
        };
        assert_eq!(answer.status, 200);
        assert_eq!(changes().await, ["CREATE", "CHMOD", "WRITE"], "{round}");
    }
    upload(&agent, dir.path().join("empty"), &[], "").await;
    assert_eq!(changes().await, ["CREATE", "CHMOD"]);
    upload(&agent, dir.path().join("file-0"), &[], "again").await;
    let mut overwritten = changes().await;
    // Emptying the file and filling it are two events, unless nobody read between them.
    overwritten.dedup();
    assert_eq!(overwritten, ["CHMOD", "WRITE"]);
    upload(&agent, dir.path().join("m"), &[("x-metadata-a", "b")], "x").await;
    assert_eq!(changes().await, ["CREATE", "CHMOD", "WRITE", "CHMOD"]);
}

#[tokio::test]
async fn a_large_upload_arrives_whole() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("large");
    let content = noise(20_000_001);
    assert_eq!(upload(&agent, &file, &[], content.clone()).await.status, 200);
    assert!(fs::read(&file).unwrap() == content);
    let body = form(&[part("name=\"file\"", &content)]);
    assert_eq!(upload_form(&agent, &files(&file), body).await.status, 200);
    assert!(download(&agent, &file, &[]).await.body == content);
}

/// Starts an upload of which only the head is sent.
async fn begin(agent: &support::Agent, path: &Path, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: agent\r\ncontent-type: {BINARY}\r\ncontent-length: {length}\r\n\r\n",
        files(path)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_slow_upload_shows_in_its_file_before_it_ends() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slow");
    let mut stream = begin(&agent, &file, 10).await;
    stream.write_all(b"first").await.unwrap();
    eventually("the first half is written", async || {
        fs::read(&file).is_ok_and(|content| content == b"first")
    })
    .await;
    stream.write_all(b"-last").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(fs::read(&file).unwrap(), b"first-last");
}

#[tokio::test]
async fn uploads_that_break_off_leave_nothing_open() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let open_here = || {
        let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        targets.filter(|target| target.starts_with(dir.path())).count()
    };
    let mut streams = Vec::new();
    for index in 0..20 {
        let mut stream = begin(&agent, &dir.path().join(index.to_string()), 1 << 30).await;
        stream.write_all(&vec![1; 100_000]).await.unwrap();
        streams.push(stream);
    }
    eventually("all uploads are under way", async || open_here() == 20).await;
    drop(streams);
    eventually("all files are closed", async || open_here() == 0).await;
    assert_eq!(upload(&agent, dir.path().join("next"), &[], "fine").await.status, 200);
}

#[tokio::test]
async fn bodies_in_the_smallest_chunks() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chunks");
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    let text = format!(
        "POST {} HTTP/1.1\r\nhost: agent\r\ncontent-type: {BINARY}\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n",
        files(&file)
    );
    let content = noise(5000);
    let mut body = Vec::new();
    for byte in &content {
        body.extend(b"1\r\n");
        body.push(*byte);
        body.extend(b"\r\n");
    }
    body.extend(b"0\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(fs::read(&file).unwrap() == content);
}

#[tokio::test]
async fn headers_beyond_reason_are_refused() {
    let agent = agent();
    let huge = "v".repeat(1 << 20);
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    let text = format!("POST /files HTTP/1.1\r\nhost: agent\r\nx-metadata-a: {huge}\r\n\r\n");
    // The agent may hang up before it has read everything.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"));
    assert_eq!(download(&agent, "/etc/passwd", &[]).await.status, 200);
}
