//! The command line against a real server with real sandboxes; needs root.

mod harness;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Stdio,
    time::{Duration, Instant},
};

use harness::{Server, command, dir, signal, soulbox};
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

#[test]
fn the_environment_points_at_the_server() {
    let server = Server::start();
    let env = server.cli(["env", "--json"]).ended_with(0).json();
    let url = env["E2B_API_URL"].as_str().expect("a URL");
    assert_eq!(env["E2B_SANDBOX_URL"], url);
    assert!(env["E2B_API_KEY"].as_str().expect("a key").starts_with("e2b_"));
    assert!(env["E2B_DOMAIN"].as_str().expect("a domain").starts_with("localhost:"));
    let key_file = server.dir.path().join("api-key");
    let mode = std::fs::metadata(key_file).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // What a shell makes of it leads a client with another data directory to the same server.
    let exports = server.cli(["env"]).ended_with(0).stdout;
    let elsewhere = dir();
    let script = format!("{exports}\nexec {} sandbox list --json", env!("CARGO_BIN_EXE_soulbox"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env("SOULBOX_DATA_DIR", elsewhere.path());
    let output = shell.output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "[]");

    let bad = "e2b_0000000000000000000000000000000000000000";
    let ran = server.cli(["sandbox", "list", "--api-key", bad, "--json"]).ended_with(4);
    assert_eq!(ran.error()["code"], "SB-AUTH");
}

#[test]
fn a_revoked_key_stops_working_while_the_server_runs() {
    let server = Server::start();
    let made = server.cli(["key", "create", "short", "--json"]).ended_with(0).json();
    let (id, key) = (made["id"].as_str().expect("id"), made["key"].as_str().expect("key"));
    server.cli(["sandbox", "list", "--api-key", key]).ended_with(0);
    server.cli(["key", "revoke", id]).ended_with(0);
    std::thread::sleep(Duration::from_millis(1200));
    server.cli(["sandbox", "list", "--api-key", key]).ended_with(4);
}

#[test]
fn a_data_directory_in_use_says_by_whom() {
    let server = Server::start();
    let ran = server.cli(["serve", "--listen", "127.0.0.1:0", "--json"]).ended_with(1);
    let error = ran.error();
    assert_eq!(error["code"], "SB-CONFLICT");
    let message = error["message"].as_str().expect("text");
    assert!(message.contains(&format!("process {}", server.pid())), "{message}");
    assert!(message.contains("http://127.0.0.1:"), "{message}");
    server.cli(["sandbox", "list"]).ended_with(0);
}

#[test]
fn a_port_in_use_says_what_to_do() {
    let data = dir();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let ran = soulbox(data.path(), ["serve", "--listen", &address, "--json"]).ended_with(1);
    let error = ran.error();
    assert!(error["message"].as_str().expect("text").contains("in use"), "{error}");
    assert!(error["hint"].as_str().expect("text").contains("--listen"), "{error}");
    assert!(!data.path().join("server.json").exists());
}

#[test]
fn nobody_but_root_serves() {
    let data = dir();
    // The build directory may be closed to others.
    let program = data.path().join("soulbox");
    std::fs::copy(env!("CARGO_BIN_EXE_soulbox"), &program).expect("copied");
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).expect("open");
    let ran: harness::Ran = std::process::Command::new(program)
        .args(["serve", "--json", "--data-dir", "/nowhere/soulbox"])
        .uid(65534)
        .gid(65534)
        .output()
        .expect("runs")
        .into();
    let error = ran.ended_with(1).error();
    assert!(error["message"].as_str().expect("text").contains("needs root"), "{error}");
    assert!(error["hint"].as_str().expect("text").contains("sudo"), "{error}");
}

#[test]
fn a_full_disk_is_named() {
    let data = dir();
    let run = |program: &str, args: &[&str]| {
        let status = std::process::Command::new(program).args(args).status().expect(program);
        assert!(status.success(), "{program} {args:?}");
    };
    let path = data.path().to_str().expect("UTF-8");
    run("mount", &["-t", "tmpfs", "-o", "size=32k", "tmpfs", path]);
    let ran = soulbox(data.path(), ["serve", "--listen", "127.0.0.1:0", "--json"]);
    run("umount", &[path]);
    let error = ran.ended_with(1).error();
    assert!(error["message"].as_str().expect("text").contains("is full"), "{error}");
    assert!(error["hint"].as_str().expect("text").contains("--data-dir"), "{error}");
}

#[test]
fn sandboxes_outlive_their_server_unless_told_otherwise() {
    let mut server = Server::start();
    let id = server.sandbox();
    server.cli(["sandbox", "exec", &id, "--", "sh", "-c", "echo kept > /tmp/note"]).ended_with(0);
    assert_eq!(server.stop(), Some(0));
    assert!(!server.dir.path().join("server.json").exists());
    server.run(&["--kill-sandboxes"]);
    let ran = server.cli(["sandbox", "exec", &id, "--", "cat", "/tmp/note"]).ended_with(0);
    assert_eq!(ran.stdout, "kept\n");
    assert_eq!(server.stop(), Some(0));
    server.run(&[]);
    let left = server.cli(["sandbox", "list", "--json"]).ended_with(0).json();
    assert_eq!(left, serde_json::json!([]));
}

#[test]
fn a_killed_server_is_followed_by_one_that_knows_its_sandboxes() {
    let mut server = Server::start();
    let id = server.sandbox();
    let mut child = command(server.dir.path())
        .args(["sandbox", "exec", &id, "--", "sh", "-c", "echo up; sleep 60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "up");
    server.crash();
    assert_eq!(child.wait().expect("ends").code(), Some(5), "the client notices");
    server.cli(["sandbox", "list"]).ended_with(5);
    server.run(&[]);
    let left = server.cli(["sandbox", "exec", &id, "--", "pgrep", "-c", "^sleep$"]).ended_with(0);
    assert_eq!(left.stdout.trim(), "1", "the command goes on: {left:?}");
}

#[test]
fn tls_of_this_machine_works_with_what_env_prints() {
    let mut server = Server::idle();
    server.run(&["--tls-local", "--domain", "box.test"]);
    let env = server.cli(["env", "--json"]).ended_with(0).json();
    assert!(env["E2B_API_URL"].as_str().expect("a URL").starts_with("https://localhost:"));
    assert!(env["E2B_DOMAIN"].as_str().expect("a domain").starts_with("box.test:"));
    assert!(env["SSL_CERT_FILE"].is_string() && env["NODE_EXTRA_CA_CERTS"].is_string());
    let id = server.sandbox();
    let ran = server.cli(["sandbox", "exec", &id, "--", "echo", "safe"]).ended_with(0);
    assert_eq!(ran.stdout, "safe\n");
}

#[test]
fn templates_are_listed_and_prepared() {
    let server = Server::start();
    let listed = server.cli(["template", "list", "--json"]).ended_with(0).json();
    let find = |name: &str| {
        let found = listed.as_array().expect("a list").iter().find(|row| row["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {listed}"))["state"].clone()
    };
    assert_eq!(find("host"), "ready");
    assert_eq!(find("base"), "missing");
    server.cli(["template", "build", "host"]).ended_with(0);
    server.cli(["template", "build", "no-such"]).ended_with(3);
    let ran = server.cli(["sandbox", "create", "--json"]).ended_with(1);
    assert_eq!(ran.error()["code"], "SB-UNAVAILABLE", "base is not built yet");
    server.cli(["sandbox", "create", "-t", "no-such"]).ended_with(3);
}

#[test]
fn benchmarks_compare_with_the_floor() {
    let server = Server::start();
    for (kind, name) in [("create", "create and first command"), ("exec", "command round trip")] {
        let report = server.cli(["bench", kind, "-n", "5", "--json"]).ended_with(0).json();
        assert_eq!(report["samples"], 5);
        assert_eq!(report["template"], "host");
        assert_eq!(report["temporary_server"], false);
        let rows = report["rows"].as_array().expect("rows");
        assert_eq!(rows[0]["name"], "floor");
        assert!(rows[0]["p50_ms"].as_f64().expect("ms") > 0.0);
        let row = rows.iter().find(|row| row["name"] == name).expect(name);
        let ratio = row["ratio"]["p50"].as_f64().expect("a ratio");
        let (above, below) = (row["p50_ms"].as_f64(), rows[0]["p50_ms"].as_f64());
        let expected = above.expect("ms") / below.expect("ms");
        assert!((ratio - expected).abs() < 1e-6, "{report:#}");
    }
    let left = server.cli(["sandbox", "list", "--json"]).ended_with(0).json();
    assert_eq!(left, serde_json::json!([]));
}
