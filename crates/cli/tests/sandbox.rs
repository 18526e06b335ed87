//! `soulbox sandbox …` with real sandboxes; needs root.

mod harness;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    time::{Duration, Instant},
};

use harness::{Server, command, dir, signal};
use rustix::process::Signal;

const NOBODY: &str = "izzzzzzzzzz0000000000";

#[test]
fn a_sandbox_from_create_to_kill() {
    let server = Server::start();
    let made = server
        .cli(["sandbox", "create", "-t", "host", "-m", "job=4 2", "-e", "GREETING=hi", "--json"])
        .ended_with(0)
        .json();
    let id = made["sandboxID"].as_str().expect("an id").to_owned();
    let other = server.sandbox();

    let listed = server.cli(["sandbox", "list", "-m", "job=4 2", "--json"]).ended_with(0).json();
    assert_eq!(listed.as_array().expect("a list").len(), 1, "{listed}");
    assert_eq!(listed[0]["sandboxID"], id.as_str());
    let quiet = server.cli(["sandbox", "list", "-q"]).ended_with(0);
    let mut ids: Vec<_> = quiet.stdout.split_whitespace().collect();
    ids.sort_unstable();
    let mut expected = vec![id.as_str(), &other];
    expected.sort_unstable();
    assert_eq!(ids, expected);

    let info = server.cli(["sandbox", "info", &id, "--json"]).ended_with(0).json();
    assert_eq!(info["state"], "running");
    assert_eq!(info["metadata"]["job"], "4 2");
    let greeting = server.cli(["sandbox", "exec", &id, "--", "printenv", "GREETING"]);
    assert_eq!(greeting.ended_with(0).stdout, "hi\n");

    server.cli(["sandbox", "kill", &id]).ended_with(0);
    server.cli(["sandbox", "kill", &id]).ended_with(3);
    let gone = server.cli(["sandbox", "info", &id, "--json"]).ended_with(3);
    assert_eq!(gone.error()["code"], "SB-NOT-FOUND");
    let all = server.cli(["sandbox", "kill", "--all", "--json"]).ended_with(0).json();
    assert_eq!(all, serde_json::json!([{ "sandboxID": other, "killed": true }]));
}

#[test]
fn a_command_keeps_its_streams_and_exit_code() {
    let server = Server::start();
    let id = server.sandbox();
    let exec = |args: &[&str], stdin: &[u8]| {
        let all: Vec<&str> =
            ["sandbox", "exec", &id].into_iter().chain(args.iter().copied()).collect();
        server.cli_with(&all, stdin)
    };
    let ran = exec(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"], b"").ended_with(7);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));

    let body: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let sum = exec(&["--", "cksum"], &body).ended_with(0);
    assert!(sum.stdout.trim().ends_with(&body.len().to_string()), "{sum:?}");

    let ran = exec(&["-C", "/tmp", "-e", "X=y z", "--", "sh", "-c", "pwd; echo \"$X\""], b"");
    assert_eq!(ran.ended_with(0).stdout, "/tmp\ny z\n");
    assert_eq!(exec(&["-u", "root", "--", "id", "-u"], b"").ended_with(0).stdout, "0\n");
    exec(&["-u", "nosuch", "--", "true"], b"").ended_with(4);
    exec(&["--", "sh", "-c", "kill -KILL $$"], b"").ended_with(137);
    exec(&["--", "no-such-command"], b"").ended_with(127);

    let began = Instant::now();
    exec(&["--timeout", "300ms", "--", "sleep", "30"], b"").ended_with(124);
    assert!(began.elapsed() < Duration::from_secs(10));

    let report =
        exec(&["--json", "--", "sh", "-c", "cat; echo no >&2; exit 3"], b"in").ended_with(3);
    let report = report.json();
    assert_eq!(report["exit_code"], 3);
    assert_eq!(report["stdout"], "in");
    assert_eq!(report["stderr"], "no\n");
    server.cli(["sandbox", "exec", NOBODY, "--", "true"]).ended_with(3);
}

#[test]
fn ctrl_c_ends_the_command_in_the_sandbox() {
    let server = Server::start();
    let id = server.sandbox();
    let script = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let mut child = command(server.dir.path())
        .args(["sandbox", "exec", &id, "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "up");
    signal(child.id(), Signal::INT);
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let left = server.cli(["sandbox", "exec", &id, "--", "pgrep", "-fc", "trap.*TERM"]);
    assert_eq!(left.stdout.trim(), "0", "{left:?}");
}

#[test]
fn a_reader_that_leaves_ends_the_command() {
    let server = Server::start();
    let id = server.sandbox();
    let mut child = command(server.dir.path())
        .args(["sandbox", "exec", &id, "--", "yes"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut first = [0; 4];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("output");
    assert_eq!(child.wait().expect("ends").code(), Some(141));
    let began = Instant::now();
    loop {
        let left = server.cli(["sandbox", "exec", &id, "--", "pgrep", "-c", "^yes$"]);
        if left.stdout.trim() == "0" {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "it goes on: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_terminal_is_one() {
    let server = Server::start();
    let id = server.sandbox();
    let ran = server.cli([
        "sandbox",
        "exec",
        &id,
        "--tty",
        "--",
        "sh",
        "-c",
        "tty; echo $TERM; stty size",
    ]);
    let ran = ran.ended_with(0);
    assert!(ran.stdout.contains("/dev/pts/"), "{ran:?}");
    assert!(ran.stdout.contains("24 80"), "{ran:?}");
    let shell =
        server.cli_with(&["sandbox", "shell", &id], b"echo $((6*7)); exit 9\n").ended_with(9);
    assert!(shell.stdout.contains("42"), "{shell:?}");
}

#[test]
fn files_and_directories_go_both_ways() {
    let server = Server::start();
    let id = server.sandbox();
    let here = dir();
    let tree = here.path().join("tree");
    std::fs::create_dir_all(tree.join("sub dir")).expect("made");
    let big: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(tree.join("sub dir/big"), &big).expect("written");
    std::fs::write(tree.join("run.sh"), "#!/bin/sh\necho ran\n").expect("written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(tree.join("run.sh"), executable).expect("set");
    std::os::unix::fs::symlink("run.sh", tree.join("link")).expect("linked");

    let path = |name: &str| here.path().join(name).display().to_string();
    let cp = |from: &str, to: &str| server.cli(["sandbox", "cp", from, to]);
    cp(&path("tree"), &format!("{id}:/tmp/")).ended_with(0);
    let ran = server.cli(["sandbox", "exec", &id, "--", "/tmp/tree/link"]).ended_with(0);
    assert_eq!(ran.stdout, "ran\n");
    cp(&format!("{id}:/tmp/tree"), &path("back")).ended_with(0);
    assert_eq!(std::fs::read(here.path().join("back/sub dir/big")).expect("there"), big);
    assert_eq!(
        std::fs::read_link(here.path().join("back/link")).expect("a link"),
        std::path::Path::new("run.sh")
    );

    cp(&path("tree/run.sh"), &format!("{id}:new/place/")).ended_with(0);
    let ran = server.cli(["sandbox", "exec", &id, "--", "sh", "-c", "cat ~/new/place/run.sh"]);
    assert!(ran.ended_with(0).stdout.contains("echo ran"));
    let report = server
        .cli(["sandbox", "cp", "--json", &format!("{id}:/tmp/tree/sub dir/big"), &path("")])
        .ended_with(0)
        .json();
    assert_eq!(report["to"], path("big"));
    assert_eq!(std::fs::read(here.path().join("big")).expect("there"), big);

    cp(&format!("{id}:/no/such"), &path("x")).ended_with(3);
    cp(&path("no-such"), &format!("{id}:/tmp")).ended_with(3);
    cp(&path("tree"), &path("y")).ended_with(2);
    assert!(!here.path().join("x").exists(), "half a copy");
}

#[test]
fn logs_and_metrics_have_their_shapes() {
    let server = Server::start();
    let id = server.sandbox();
    server.cli(["sandbox", "exec", &id, "--", "true"]).ended_with(0);
    let logs = server.cli(["sandbox", "logs", &id, "--json"]).ended_with(0).json();
    let first = &logs.as_array().expect("a list")[0];
    for key in ["timestamp", "level", "message", "fields"] {
        assert!(!first[key].is_null(), "{key}: {logs}");
    }
    let began = Instant::now();
    let sample = loop {
        let samples = server.cli(["sandbox", "metrics", &id, "--json"]).ended_with(0).json();
        if let Some(sample) = samples.as_array().expect("a list").first() {
            break sample.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no sample");
        std::thread::sleep(Duration::from_millis(300));
    };
    assert!(sample["memUsed"].as_u64().expect("bytes") > 0, "{sample}");
    server.cli(["sandbox", "logs", NOBODY]).ended_with(3);
    server.cli(["sandbox", "metrics", NOBODY]).ended_with(3);
}

#[test]
fn a_followed_log_ends_with_its_sandbox() {
    let server = Server::start();
    let id = server.sandbox();
    let mut child = command(server.dir.path())
        .args(["sandbox", "logs", "-f", &id])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(!lines.next().expect("a line").expect("text").is_empty());
    server.cli(["sandbox", "kill", &id]).ended_with(0);
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}
