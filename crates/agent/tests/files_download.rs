//! `GET /files` as clients use it, and as they should not.

#![allow(clippy::unwrap_used, clippy::panic)]

mod files_support;
mod support;

use std::{
    fs,
    io::Read,
    os::unix::fs::symlink,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use files_support::{download, files, noise, request};
use flate2::read::GzDecoder;
use http::{Method, Request};
use http_body_util::BodyExt;
use support::{agent, agent_with};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

#[tokio::test]
async fn a_file_comes_with_what_clients_rely_on() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a b.txt");
    fs::write(&file, "hello").unwrap();
    let stamp = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    fs::File::options().write(true).open(&file).unwrap().set_modified(stamp).unwrap();

    let answer = download(&agent, &file, &[]).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
    for (name, value) in [
        ("content-length", "5"),
        ("content-type", "text/plain; charset=utf-8"),
        ("content-disposition", "inline; filename=\"a b.txt\""),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("accept-ranges", "bytes"),
        ("vary", "Accept-Encoding"),
        ("content-encoding", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }

    fs::write(dir.path().join("empty"), "").unwrap();
    let empty = download(&agent, dir.path().join("empty"), &[]).await;
    assert_eq!((empty.status.as_u16(), empty.header("content-length")), (200, "0"));

    symlink("a b.txt", dir.path().join("link")).unwrap();
    assert_eq!(download(&agent, dir.path().join("link"), &[]).await.body, "hello");
}

#[tokio::test]
async fn sizes_around_a_piece_arrive_whole() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data");
    let piece = 256 * 1024;
    for size in [1, piece - 1, piece, piece + 1, 2 * piece, 5 * piece + 7] {
        let content = noise(size);
        fs::write(&file, &content).unwrap();
        let plain = download(&agent, &file, &[("accept-encoding", "gzip, deflate")]).await;
        assert_eq!(plain.header("content-length"), size.to_string());
        assert!(plain.body == content, "{size} bytes differ");

        let zipped = download(&agent, &file, &[("accept-encoding", "gzip")]).await;
        assert_eq!(zipped.header("content-encoding"), "gzip");
        assert_eq!(zipped.header("content-length"), "");
        let mut unzipped = Vec::new();
        GzDecoder::new(&zipped.body[..]).read_to_end(&mut unzipped).unwrap();
        assert!(unzipped == content, "{size} compressed bytes differ");
    }
}

#[tokio::test]
async fn files_that_claim_to_be_empty_are_read() {
    let agent = agent();
    let path = "/proc/sys/kernel/random/boot_id";
    let expected = fs::read_to_string(path).unwrap();
    assert_eq!(download(&agent, path, &[]).await.body, expected);
    let ranged = download(&agent, path, &[("range", "bytes=0-7")]).await;
    assert_eq!((ranged.status.as_u16(), &ranged.body[..]), (206, &expected.as_bytes()[..8]));
    // Longer than a page, so made anew by each read. What is in brackets comes and goes with its module or
    // program.
    let lasting = |symbols: &[u8]| -> Vec<Vec<u8>> {
        let lines = symbols.split(|byte| *byte == b'\n');
        lines.filter(|line| !line.ends_with(b"]")).map(<[u8]>::to_vec).collect()
    };
    let symbols = download(&agent, "/proc/kallsyms", &[]).await;
    assert!(lasting(&symbols.body) == lasting(&fs::read("/proc/kallsyms").unwrap()));
    // Claims a page, has less.
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    if let Ok(expected) = fs::read(path) {
        assert_eq!(download(&agent, path, &[]).await.body, expected);
    }
}

#[tokio::test]
async fn parts_of_a_file() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("digits");
    fs::write(&file, "0123456789").unwrap();
    let get = async |range: &str| download(&agent, &file, &[("range", range)]).await;

    let middle = get("bytes=2-4").await;
    assert_eq!((middle.status.as_u16(), &middle.body[..]), (206, &b"234"[..]));
    assert_eq!(middle.header("content-range"), "bytes 2-4/10");
    assert_eq!(middle.header("content-length"), "3");
    assert_eq!(get("bytes=-2").await.body, "89");
    assert_eq!(get("bytes=7-100").await.body, "789");

    for outside in ["bytes=10-", "bytes=-0", "bytes=99999999999999999999-", "bytes=5-1", "x"] {
        let answer = get(outside).await;
        assert_eq!(answer.status, 416, "{outside}");
        assert_eq!(answer.header("content-range"), "bytes */10");
        assert_eq!(answer.json()["code"], 416);
    }

    let several = get("bytes=0-1,8-").await;
    assert_eq!(several.status, 206);
    let boundary =
        several.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap();
    let expected = format!(
        "--{boundary}\r\nContent-Range: bytes 0-1/10\r\nContent-Type: text/plain; charset=utf-8\
         \r\n\r\n01\r\n--{boundary}\r\nContent-Range: bytes 8-9/10\r\nContent-Type: text/plain; \
         charset=utf-8\r\n\r\n89\r\n--{boundary}--\r\n"
    );
    assert_eq!(several.body, expected);
    assert_eq!(several.header("content-length"), expected.len().to_string());
    assert_eq!(get("bytes=0-9,0-9").await.status, 200);

    let modified = download(&agent, &file, &[]).await.header("last-modified").to_owned();
    let unchanged = download(&agent, &file, &[("if-modified-since", &modified)]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));
    let headers = [("range", "bytes=0-0"), ("if-range", "Sun, 06 Nov 1994 08:49:37 GMT")];
    assert_eq!(download(&agent, &file, &headers).await.status, 200);
    let headers = [("range", "bytes=0-0"), ("accept-encoding", "gzip, *;q=0")];
    assert_eq!(download(&agent, &file, &headers).await.status, 406);
    let headers = [("accept-encoding", "br, identity;q=0")];
    assert_eq!(download(&agent, &file, &headers).await.status, 406);

    let large = dir.path().join("large");
    let content = noise(3_000_000);
    fs::write(&large, &content).unwrap();
    let tail = download(&agent, &large, &[("range", "bytes=1000000-")]).await;
    assert!(tail.body == content[1_000_000..]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_at_once() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR).unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink("nowhere", at("broken")).unwrap();
    fs::write(at("file"), "x").unwrap();
    for (path, status, message) in [
        (at("none"), 404, "does not exist"),
        (at("broken"), 404, "does not exist"),
        (at("file/below"), 404, "does not exist"),
        (at(""), 400, "is a directory"),
        ("/".into(), 400, "is a directory"),
        ("".into(), 400, "is a directory"),
        (at("fifo"), 400, "not a regular file"),
        ("/dev/zero".into(), 400, "not a regular file"),
        (at("loop"), 400, "symbolic links"),
        (at("a\0b"), 400, "NUL"),
        ("~nobody/x".into(), 400, "user-specific home"),
        (at(&"x".repeat(300)), 400, "too long"),
        (format!("/{}", "y/".repeat(3000)).into(), 400, "bytes long"),
    ] {
        let answer = download(&agent, &path, &[]).await;
        assert_eq!(answer.status, status, "{path:?}: {:?}", answer.body);
        assert_eq!(answer.json()["code"], status);
        let text = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(text.contains(message), "{path:?}: {text}");
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    }
    for (query, status) in [
        ("path=%ff", 400),
        ("path=/etc/passwd&username=nobody-has-this-name", 401),
        ("path=/etc/passwd&signature_expiration=soon", 400),
    ] {
        let uri = format!("/files?{query}");
        assert_eq!(agent.get(&uri).await.status, status, "{query}");
    }
    for method in [Method::HEAD, Method::PUT, Method::DELETE] {
        let answer = request(&agent, method, &files(at("file")), &[], Bytes::new()).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, POST"));
    }
}

#[tokio::test]
async fn an_empty_path_is_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "found").unwrap();
    let agent = agent_with(soulbox_agent::Settings {
        default_user: "root".into(),
        default_workdir: Some(file.to_str().unwrap().into()),
        ..Default::default()
    });
    assert_eq!(agent.get("/files").await.body, "found");
    assert_eq!(agent.get("/files?path=&username=").await.body, "found");
}

#[tokio::test]
async fn a_file_that_shrinks_breaks_the_transfer_off() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shrinking");
    let file = fs::File::create(&path).unwrap();
    file.set_len(256 << 20).unwrap();
    let request = Request::get(files(&path)).header("host", "agent").body(Bytes::new()).unwrap();
    let mut body = agent.send(request).await.into_body();
    body.frame().await.unwrap().unwrap();
    file.set_len(0).unwrap();
    let broken = loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken, "a short file must not look complete");
}

#[tokio::test]
async fn clients_that_do_not_read_hold_nobody_up() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    fs::File::create(&large).unwrap().set_len(1 << 30).unwrap();
    fs::write(dir.path().join("small"), "quick").unwrap();
    let mut idle = Vec::new();
    for _ in 0..600 {
        let mut stream = TcpStream::connect(agent.address).await.unwrap();
        let head = format!("GET {} HTTP/1.1\r\nhost: agent\r\n\r\n", files(&large));
        stream.write_all(head.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    // Every one of them has got what it can hold.
    for stream in &idle {
        stream.readable().await.unwrap();
    }
    let started = Instant::now();
    assert_eq!(download(&agent, dir.path().join("small"), &[]).await.body, "quick");
    assert!(started.elapsed() < Duration::from_secs(5));
    let held = resident() / (1 << 20);
    assert!(held < 250, "{held} MiB for 600 clients that do not read");
}

/// Of this process, in bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
