//! `soulbox serve` and what it means for the commands beside it; needs root.

mod harness;

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Stdio,
    time::{Duration, Instant},
};

use harness::{Server, command, dir, signal, soulbox};
use rustix::process::Signal;

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

#[test]
fn a_benchmark_without_a_server_leaves_nothing_behind() {
    let (data, temporary) = (dir(), dir());
    let bench = |number: &str| {
        let mut bench = command(data.path());
        bench.args(["bench", "create", "-n", number, "--json"]).env("TMPDIR", temporary.path());
        bench
    };
    let left = || std::fs::read_dir(temporary.path()).expect("readable").count();

    let ran: harness::Ran = bench("3").output().expect("runs").into();
    assert_eq!(ran.ended_with(0).json()["temporary_server"], true);
    assert_eq!(left(), 0);

    let mut child = bench("100000").stderr(Stdio::null()).spawn().expect("starts");
    let began = Instant::now();
    // The server's directory and that of the floor: the measurement is about to begin.
    while left() < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(child.id(), Signal::INT);
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_eq!(left(), 0);
}
