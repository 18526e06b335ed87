//! The command line without a server.

mod harness;

use std::{net::TcpListener, os::unix::fs::PermissionsExt as _};

use harness::{dir, soulbox};

#[test]
fn help_has_examples_and_exit_codes() {
    let data = dir();
    let ran = soulbox(data.path(), ["--help"]).ended_with(0);
    for part in ["Examples:", "Exit codes:", "doctor", "serve", "sandbox", "bench", "--data-dir"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    for command in [
        ["serve", "--help", "", ""],
        ["env", "--help", "", ""],
        ["sandbox", "create", "--help", ""],
        ["sandbox", "list", "--help", ""],
        ["sandbox", "exec", "--help", ""],
        ["sandbox", "shell", "--help", ""],
        ["sandbox", "cp", "--help", ""],
        ["sandbox", "logs", "--help", ""],
        ["sandbox", "kill", "--help", ""],
        ["key", "create", "--help", ""],
        ["template", "build", "--help", ""],
        ["bench", "create", "--help", ""],
        ["bench", "exec", "--help", ""],
    ] {
        let args = command.iter().filter(|arg| !arg.is_empty());
        let ran = soulbox(data.path(), args).ended_with(0);
        assert!(ran.stdout.contains("Examples:"), "{command:?}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\x1b'), "colours without a terminal");
}

#[test]
fn what_is_mistyped_is_a_usage_error() {
    let data = dir();
    for args in [
        &["--nonsense"][..],
        &["sandbox", "exec", "iabcdefghij0123456789"],
        &["sandbox", "info", "../../etc/passwd"],
        &["sandbox", "create", "--timeout", "soon"],
        &["sandbox", "create", "--env", "novalue"],
        &["sandbox", "cp", "nosuchid:/a", "."],
        &["serve", "--listen", "nowhere"],
        &["serve", "--tls-cert", "a.pem"],
        &["serve", "--max-sandboxes", "0"],
        &["bench", "create", "-n", "0"],
        &["key", "revoke", "not-a-uuid"],
    ] {
        let ran = soulbox(data.path(), args).ended_with(2);
        assert!(ran.stdout.is_empty(), "{args:?}: {ran:?}");
        let json = soulbox(data.path(), args.iter().copied().chain(["--json"])).ended_with(2);
        assert_eq!(json.error()["code"], "SB-INVALID", "{args:?}");
        assert_eq!(json.error()["exit_code"], 2, "{args:?}");
    }
}

#[test]
fn without_a_server_clients_say_so() {
    let data = dir();
    for args in [&["sandbox", "list"][..], &["env"], &["template", "list"]] {
        let ran = soulbox(data.path(), args).ended_with(5);
        assert!(ran.stderr.contains("no server runs on"), "{ran:?}");
        assert!(ran.stderr.contains("hint: "), "{ran:?}");
        let json = soulbox(data.path(), args.iter().copied().chain(["--json"])).ended_with(5);
        assert_eq!(json.error()["code"], "SB-UNREACHABLE");
        assert!(json.error()["hint"].is_string());
    }
    // Nobody listens on a port that was just given back.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let url = format!("http://{free}");
    let ran = soulbox(
        data.path(),
        ["--api-url", &url, "--api-key", "e2b_00", "sandbox", "list", "--json"],
    )
    .ended_with(5);
    assert!(ran.error()["message"].as_str().expect("text").contains(&url), "{ran:?}");
}

#[test]
fn a_server_that_died_is_not_taken_for_a_running_one() {
    let data = dir();
    let gone = r#"{"pid":4194304,"url":"http://127.0.0.1:9","domain":"localhost:9","version":"0"}"#;
    std::fs::write(data.path().join("server.json"), gone).expect("written");
    let ran = soulbox(data.path(), ["env"]).ended_with(5);
    assert!(ran.stderr.contains("4194304"), "{ran:?}");
}

#[test]
fn keys_are_shown_once_and_revoked_for_good() {
    let data = dir();
    let made = soulbox(data.path(), ["key", "create", "ci", "--json"]).ended_with(0).json();
    let (id, key) = (made["id"].as_str().expect("id"), made["key"].as_str().expect("key"));
    assert!(key.starts_with("e2b_") && key.len() == 44, "{key}");

    let listed = soulbox(data.path(), ["key", "list", "--json"]).ended_with(0);
    assert!(!listed.stdout.contains(key), "the secret part is shown again");
    assert_eq!(listed.json()[0]["id"], id);
    assert_eq!(listed.json()[0]["name"], "ci");

    let database = data.path().join("soulbox.db");
    let mode = std::fs::metadata(&database).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let bytes = std::fs::read(&database).expect("readable");
    let bare = key.trim_start_matches("e2b_").as_bytes();
    assert!(!bytes.windows(bare.len()).any(|window| window == bare), "the key lies in the clear");

    soulbox(data.path(), ["key", "revoke", id]).ended_with(0);
    let again = soulbox(data.path(), ["key", "revoke", id, "--json"]).ended_with(3);
    assert_eq!(again.error()["code"], "SB-NOT-FOUND");
    assert_eq!(soulbox(data.path(), ["key", "list", "--json"]).json(), serde_json::json!([]));
}

#[test]
fn a_key_list_makes_no_database() {
    let data = dir();
    soulbox(data.path(), ["key", "list"]).ended_with(3);
    assert!(!data.path().join("soulbox.db").exists());
}

#[test]
fn doctor_names_every_check() {
    let data = dir();
    let ran = soulbox(data.path(), ["doctor", "--json", "--listen", "127.0.0.1:0"]);
    let report = ran.json();
    let checks = report["checks"].as_array().expect("checks");
    for name in ["kernel", "root", "cgroups", "data directory", "listener", "base template"] {
        let check = checks.iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("{name}: {report:#}"));
        assert!(["ok", "degraded", "missing"].contains(&check["status"].as_str().expect("text")));
        assert!(check["detail"].is_string());
    }
    let missing = checks.iter().any(|check| check["status"] == "missing");
    assert_eq!(ran.code, Some(i32::from(missing)));
    assert_eq!(report["ready"], !missing);
}

#[test]
fn doctor_sees_a_port_in_use() {
    let data = dir();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let ran = soulbox(data.path(), ["doctor", "--json", "--listen", &address]).ended_with(1);
    let checks = ran.json()["checks"].clone();
    let listener = checks.as_array().expect("checks").iter().find(|c| c["name"] == "listener");
    let listener = listener.expect("there");
    assert_eq!(listener["status"], "missing");
    assert!(listener["advice"].as_str().expect("advice").contains("--listen"));
}

#[test]
fn completions_know_the_commands() {
    let data = dir();
    for shell in ["bash", "zsh", "fish"] {
        let ran = soulbox(data.path(), ["completions", shell]).ended_with(0);
        assert!(ran.stdout.contains("doctor") && ran.stdout.contains("sandbox"), "{shell}");
    }
}
