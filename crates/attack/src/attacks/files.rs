//! Against the files API: races, magic links, endless files, hostile paths. All of it runs inside
//! the sandbox; the host is watched.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    attack::{Attack, Group::Files, How, Outcome, Who, hold},
    field::{Field, unique},
    sandbox::quote,
};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "files-exchanged-directory",
        group: Files,
        title: "a directory exchanged with a link to `/etc` while the API reads, writes, moves and removes",
        defence: "files are read and written by the agent, inside; the host opens no path of a sandbox",
        remains: "",
        how: How::Once(exchanged_directory),
    },
    Attack {
        id: "files-magic-links",
        group: Files,
        title: "links into `/proc/self` and `/proc/1`, which for the reader are the agent's own",
        defence: "opened as the acting user by a process that is not dumpable",
        remains: "",
        how: How::Each(magic_links),
    },
    Attack {
        id: "files-endless",
        group: Files,
        title: "a pipe without a writer, `/dev/zero`, sockets, terminals, as file to read or write",
        defence: "regular files alone are served; opened without waiting",
        remains: "",
        how: How::Once(endless),
    },
    Attack {
        id: "files-hostile-paths",
        group: Files,
        title: "`..`, NUL, line breaks, invalid UTF-8, 5000 characters, in paths and names of uploads",
        defence: "parsed once in the agent; whatever it means, it means inside",
        remains: "",
        how: How::Each(hostile_paths),
    },
    Attack {
        id: "files-deep-tree",
        group: Files,
        title: "a tree 20,000 deep, with names of 255 bytes, is listed, removed and killed",
        defence: "iterative walks in the agent; a layer goes as a whole",
        remains: "",
        how: How::Once(deep_tree),
    },
];

fn exchanged_directory(field: &Field<'_>) -> Outcome {
    let shared = field.shared()?;
    let name = unique("soulbox-attack-");
    let victim = Path::new("/etc").join(&name);
    fs::write(&victim, "of the host")?;
    let outcome = race(field, &shared, &victim, &name);
    let moved = victim.with_extension("2");
    let _ = fs::remove_file(&victim);
    hold!(!moved.exists(), "the API moved a file of the host");
    outcome
}

fn race(field: &Field<'_>, shared: &crate::sandbox::Sandbox, victim: &Path, name: &str) -> Outcome {
    let before = fs::metadata(victim)?;
    let line = format!(
        "mkdir -p /tmp/race && ln -sfn /etc /tmp/race.link && echo inside > /tmp/race/{name}"
    );
    shared.shell(&line, Who::Root)?;
    let arguments = ["/tmp/race", "/tmp/race.link", "3"];
    let program = include_str!("../../programs/exchange.py");
    let racer = shared.launch(program, &arguments, Who::Root, Duration::from_secs(20))?;
    let path = format!("/tmp/race/{name}");
    let (end, mut requests) = (Instant::now() + Duration::from_millis(2500), 0);
    while Instant::now() < end {
        field.check()?;
        let read = shared.read(&path, Who::Root)?;
        hold!(!read.text().contains("of the host"), "the API read a file of the host");
        shared.write(&path, b"written", Who::Root)?;
        let moved = json!({"source": path, "destination": format!("{path}.2")});
        shared.call("/filesystem.Filesystem/Move", &moved)?;
        shared.call("/filesystem.Filesystem/ListDir", &json!({"path": "/tmp/race", "depth": 1}))?;
        shared.call("/filesystem.Filesystem/Remove", &json!({"path": format!("{path}.2")}))?;
        requests += 5;
    }
    let exchanges: u64 = racer.wait()?.said().parse().unwrap_or(0);
    hold!(exchanges > 1000, "only {exchanges} exchanges");
    let after = fs::metadata(victim)?;
    let same = (before.ino(), before.mtime_nsec(), before.ctime(), before.ctime_nsec())
        == (after.ino(), after.mtime_nsec(), after.ctime(), after.ctime_nsec());
    hold!(same && fs::read(victim)? == b"of the host", "a file of the host was touched");
    Ok(format!("{requests} requests during {exchanges} exchanges, no file of the host touched"))
}

const MAGIC: &[&str] = &[
    "/proc/self/mem",
    "/proc/self/environ",
    "/proc/1/environ",
    "/proc/1/mem",
    "/proc/self/exe",
    "/proc/1/exe",
    "/proc/self/maps",
    "/dev/fd/3",
    "/proc/self/root/etc/shadow",
    "/proc/thread-self/mem",
    "/proc/self/auxv",
    "/proc/self/task/1/environ",
    "/proc/1/root/proc/1/mem",
];

fn magic_links(field: &Field<'_>, who: Who) -> Outcome {
    let shared = field.shared()?;
    let descriptors = (0..24).map(|number| format!("/proc/self/fd/{number}"));
    let targets: Vec<String> =
        MAGIC.iter().map(|target| (*target).to_owned()).chain(descriptors).collect();
    let directory = unique("/tmp/magic-");
    let links =
        targets.iter().enumerate().map(|(at, target)| format!("ln -s {target} {directory}/{at}"));
    let line = format!("mkdir {directory}; {}", links.collect::<Vec<_>>().join("; "));
    shared.shell(&line, Who::User)?;
    let mut tried = 0;
    for (at, target) in targets.iter().enumerate() {
        field.check()?;
        for path in [target.clone(), format!("{directory}/{at}")] {
            for method in ["GET", "POST"] {
                let target = format!("/files?path={}&username={}", quote(&path), who.name());
                let mut request = shared.to_agent(method, target).timeout(Duration::from_secs(3));
                if method == "POST" {
                    request = request.body("application/octet-stream", [b'A'; 4096]);
                }
                tried += 1;
                // One that never answers shows nothing.
                let Ok(answer) = shared.send(request) else { continue };
                hold!(
                    !answer.text().contains(shared.token()),
                    "{method} {path} shows the agent's inside"
                );
            }
        }
    }
    hold!(shared.is_well(), "the sandbox does not answer any more");
    Ok(format!("{tried} requests, nothing of the agent"))
}

fn endless(field: &Field<'_>) -> Outcome {
    let shared = field.shared()?;
    let line = "rm -f /tmp/pipe /tmp/socket; mkfifo /tmp/pipe; ln -sf /dev/zero /tmp/zero; \
                ln -sf /proc/kmsg /tmp/kmsg; ln -sf /dev/tty /tmp/tty; \
                python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/tmp/socket\")'";
    shared.shell(line, Who::User)?;
    let paths = [
        "/tmp/pipe",
        "/tmp/socket",
        "/dev/zero",
        "/tmp/zero",
        "/dev/random",
        "/tmp/kmsg",
        "/tmp/tty",
        "/proc/self/fd/0",
    ];
    let most = Duration::from_secs(5);
    let tries = paths.iter().map(|path| ("GET", *path)).chain([("POST", "/tmp/pipe")]);
    for (method, path) in tries {
        let began = Instant::now();
        let answer = match method {
            "GET" => shared.read(path, Who::User)?,
            _ => shared.write(path, b"data", Who::User)?,
        };
        hold!(began.elapsed() < most, "{method} {path} takes {:?}", began.elapsed());
        hold!(answer.status < 500, "{method} {path}: {}", answer.status);
        hold!(answer.body.len() < 1 << 20, "{method} {path}: {} bytes", answer.body.len());
    }
    hold!(shared.is_well(), "the sandbox does not answer any more");
    Ok("each answered at once and below 500".into())
}

fn paths() -> Vec<Vec<u8>> {
    let mut paths: Vec<Vec<u8>> = [
        "a\0b",
        "a\nb",
        "a\r\nX-Evil: 1",
        "/proc/1/root/tmp/k",
        "~root/k",
        "~/../../../../tmp/k",
        "\x1b[2J",
        "CON",
        "%2e%2e%2fk",
        ".",
        "..",
        "/",
        "//",
        "/etc",
        "",
    ]
    .iter()
    .map(|path| path.as_bytes().to_vec())
    .collect();
    paths.push([b"../".repeat(40), b"tmp/k".to_vec()].concat());
    paths.extend([b"/".repeat(5000), b"a".repeat(256), b"a/".repeat(2100)]);
    // A surrogate by itself, and an overlong form of `/`.
    paths.extend([b"\xed\xb3\xbf".to_vec(), b"\xc0\xaf".to_vec()]);
    paths
}

fn hostile_paths(field: &Field<'_>, who: Who) -> Outcome {
    let shared = field.shared()?;
    let before = Path::new("/tmp/k").exists();
    let mut tried = 0;
    for path in paths() {
        let target = format!("/files?username={}&path={}", who.name(), quote(&path));
        for method in ["POST", "GET"] {
            let mut request = shared.to_agent(method, &target);
            if method == "POST" {
                request = request.body("application/octet-stream", "data");
            }
            let answer = shared.send(request)?;
            let shown = String::from_utf8_lossy(&path[..path.len().min(40)]).into_owned();
            hold!(answer.status < 500, "{method} {shown:?}: {} {}", answer.status, answer.text());
            hold!(answer.header("x-evil").is_none(), "{method} {shown:?} makes a header");
            tried += 1;
        }
    }
    for name in ["../../tmp/k", "/tmp/k\0", "a\0b", "..", "a\r\nX-Evil: 1", &"x".repeat(300)] {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\ndata\r\n--b--\r\n"
        );
        let target = format!("/files?username={}", who.name());
        let request = shared.to_agent("POST", target).body("multipart/form-data; boundary=b", body);
        let answer = shared.send(request)?;
        hold!(answer.status < 500, "file name {name:?}: {} {}", answer.status, answer.text());
        tried += 1;
    }
    hold!(before || !Path::new("/tmp/k").exists(), "a file was made on the host");
    hold!(shared.is_well(), "the sandbox does not answer any more");
    Ok(format!("{tried} requests answered below 500, nothing on the host"))
}

fn deep_tree(field: &Field<'_>) -> Outcome {
    let sandbox = field.fresh()?;
    sandbox.python(include_str!("../../programs/deep.py"), &["20000"], Who::User)?;
    let listed = sandbox
        .call("/filesystem.Filesystem/ListDir", &json!({"path": "/tmp/deep", "depth": 1}))?;
    hold!(listed.status == 200, "listing: {} {}", listed.status, listed.text());
    for (method, message) in [
        ("ListDir", json!({"path": "/tmp/deep", "depth": 4_000_000_000_u32})),
        ("Remove", json!({"path": "/tmp/deep"})),
    ] {
        let answer = sandbox.call(&format!("/filesystem.Filesystem/{method}"), &message)?;
        let internal = answer.json().is_ok_and(|said| said["code"] == "internal");
        hold!(!internal || answer.status == 200, "{method}: {}", answer.text());
    }
    hold!(sandbox.is_well(), "the agent did not outlive the tree");
    let began = Instant::now();
    field.kill(&sandbox)?;
    hold!(began.elapsed() < Duration::from_secs(10), "the kill took {:?}", began.elapsed());
    Ok("listed, removed and killed".into())
}
