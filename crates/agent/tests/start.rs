//! Starting processes: what they get, how they end, what is answered when they cannot start.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt};

use buffa::Message;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use soulbox_agent::Settings;
use soulbox_wire::process::{
    __buffa::oneof::process_event::Event as Sent, ProcessConfig, StartRequest, StartResponse,
};
use support::{Event, agent, agent_with, envelope, eventually, exists, shell};

#[tokio::test]
async fn events_come_in_order_and_the_stream_is_closed() {
    let agent = agent();
    let mut events = agent.sh("echo out; sleep 0.1; echo err >&2").await;
    let pid = events.pid().await;
    assert!(pid > 1);
    assert_eq!(events.next().await, Event::Stdout(b"out\n".to_vec()));
    assert_eq!(events.next().await, Event::Stderr(b"err\n".to_vec()));
    assert_eq!(events.next().await, Event::End(0, true, "exit status 0".into(), None));
    assert_eq!(events.next().await, Event::Closed(None));
}

#[tokio::test]
async fn the_end_says_how_a_process_ended() {
    let agent = agent();
    let end = async |script: &str| agent.run(script).await.end.unwrap();
    let text = "exit status 3".to_owned();
    assert_eq!(end("exit 3").await, (3, true, text.clone(), Some(text)));
    let text = "signal: killed".to_owned();
    assert_eq!(end("kill -KILL $$").await, (-1, false, text.clone(), Some(text)));
    assert_eq!(end("kill -HUP $$").await.2, "signal: hangup");
    assert_eq!(end("ulimit -c 0; kill -SEGV $$").await.2, "signal: segmentation fault");
}

#[tokio::test]
async fn the_pid_is_gone_when_the_end_arrives() {
    let agent = agent();
    for _ in 0..20 {
        let mut events = agent.sh("exit 0").await;
        let pid = events.pid().await;
        events.until(|event| matches!(event, Event::End(..))).await;
        assert!(!exists(pid), "still a zombie");
        assert!(agent.pids().await.is_empty());
    }
}

#[tokio::test]
async fn the_environment_is_built_from_nothing() {
    let settings = Settings {
        default_user: "root".to_owned(),
        env: [("GLOBAL".into(), "1".into()), ("BOTH".into(), "global".into())].into(),
        internal_env: [("E2B_SANDBOX".into(), "true".into())].into(),
        ..Settings::default()
    };
    let agent = agent_with(settings);
    let output = agent
        .start(json!({
            "process": {"cmd": "env", "envs": {"BOTH": "request", "E2B_SANDBOX": "mine"}},
            "stdin": false
        }))
        .await
        .collect()
        .await;
    let path = std::env::var("PATH").unwrap();
    let shell = output.stdout().lines().find(|line| line.starts_with("SHELL=")).unwrap();
    let expected = BTreeSet::from([
        "BOTH=request",
        "E2B_SANDBOX=mine",
        "GLOBAL=1",
        "HOME=/root",
        "LOGNAME=root",
        "USER=root",
        shell,
    ]);
    let got: BTreeSet<&str> =
        output.stdout().lines().filter(|line| *line != format!("PATH={path}")).collect();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn the_acting_user_and_its_home() {
    let agent = agent();
    let basic = format!("Basic {}", support::base64(b"daemon:"));
    let request = |cwd: Value| {
        json!({
            "process": {"cmd": "/bin/sh", "args": ["-c", "id -un; id -gn; pwd"], "cwd": cwd},
            "stdin": false
        })
    };
    let run = async |cwd: Value| {
        let headers = [("authorization", basic.as_str())];
        agent.stream("Start", &headers, request(cwd)).await.collect().await
    };
    assert_eq!(run(Value::Null).await.stdout(), "daemon\ndaemon\n/usr/sbin\n");
    assert_eq!(run(json!("/tmp")).await.stdout(), "daemon\ndaemon\n/tmp\n");
    assert_eq!(run(json!("../bin")).await.stdout(), "daemon\ndaemon\n/usr/bin\n");
    let refused = run(json!("/root")).await;
    assert_eq!(refused.error_code(), "invalid_argument");
    assert!(refused.error.unwrap().1.starts_with("error starting process '/bin/sh': "));
}

#[tokio::test]
async fn a_request_that_cannot_start_is_answered_in_the_stream() {
    let agent = agent();
    let refused = async |headers: &[(&str, &str)], request: Value| {
        let output = agent.stream("Start", headers, request).await.collect().await;
        assert_eq!(output.end, None);
        output.error.unwrap()
    };
    let mut elsewhere = shell("true");
    elsewhere["process"]["cwd"] = json!("/no/such/dir");
    assert_eq!(
        refused(&[], elsewhere).await,
        ("invalid_argument".into(), "cwd '/no/such/dir' does not exist".into())
    );
    let basic = format!("Basic {}", support::base64(b"nobody-here:"));
    assert_eq!(
        refused(&[("authorization", &basic)], shell("true")).await,
        ("unauthenticated".into(), "invalid username: 'nobody-here'".into())
    );
    let (code, _) = refused(&[("connect-timeout-ms", "soon")], shell("true")).await;
    assert_eq!(code, "invalid_argument");
    let (code, _) = refused(&[], json!({})).await;
    assert_eq!(code, "invalid_argument");
    let (code, _) = refused(&[], json!({"process": {"cmd": "a\0b"}})).await;
    assert_eq!(code, "invalid_argument");
    let (code, _) = refused(&[], json!({"process": {"cmd": "true", "cwd": "~daemon"}})).await;
    assert_eq!(code, "invalid_argument");
}

#[tokio::test]
async fn an_unknown_default_user_is_named() {
    let agent = agent_with(Settings { default_user: "ghost".into(), ..Settings::default() });
    let error = agent.run("true").await.error.unwrap();
    assert_eq!(error, ("unauthenticated".into(), "invalid default user: 'ghost'".into()));
}

#[tokio::test]
async fn a_missing_program_ends_as_in_a_shell() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "echo from a script without a first line").unwrap();
    let run = async |cmd: &str| {
        let request = json!({"process": {"cmd": cmd}, "stdin": false});
        let output = agent.start(request).await.collect().await;
        let (code, _, status, _) = output.end.clone().unwrap();
        (code, status, output.stderr().to_owned(), output.stdout().to_owned())
    };
    let (code, status, stderr, _) = run("no-such-program").await;
    assert_eq!((code, status.as_str()), (127, "exit status 127"));
    assert_eq!(stderr, "/bin/sh: 1: exec: no-such-program: not found\n");
    assert_eq!(run(file.to_str().unwrap()).await.0, 126);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    let (code, _, _, stdout) = run(file.to_str().unwrap()).await;
    assert_eq!((code, stdout.as_str()), (0, "from a script without a first line\n"));
}

#[tokio::test]
async fn many_processes_at_once_each_get_their_own_exit() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let wait = format!("until [ -e {} ]; do sleep 1; done", go.display());
    let mut streams = Vec::new();
    for n in 0..150 {
        streams.push((n, agent.sh(&format!("echo {n}; {wait}; exit {}", n % 100)).await));
    }
    assert_eq!(agent.pids().await.len(), 150);
    std::fs::write(&go, "").unwrap();
    for (n, stream) in &mut streams {
        let output = stream.collect().await;
        assert_eq!(output.stdout(), format!("{n}\n"));
        assert_eq!(output.end.unwrap().0, i64::from(*n % 100));
    }
    assert!(agent.pids().await.is_empty());
}

#[tokio::test]
async fn binary_messages_get_binary_answers() {
    let agent = agent();
    let message = StartRequest {
        process: ProcessConfig {
            cmd: "/bin/sh".into(),
            args: vec!["-c".into(), "printf '\\377'; kill -KILL $$".into()],
            ..ProcessConfig::default()
        }
        .into(),
        stdin: Some(false),
        ..StartRequest::default()
    };
    let request = Request::post("/process.Process/Start")
        .header("host", "agent")
        .header("content-type", "application/connect+proto")
        .body(envelope(&message.encode_to_vec()))
        .unwrap();
    let response = agent.send(request).await;
    assert_eq!(response.headers()["content-type"], "application/connect+proto");
    let mut body = response.into_body().collect().await.unwrap().to_bytes();
    let mut frame = || {
        let head: Bytes = body.split_to(5);
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        (head[0], body.split_to(length))
    };
    let mut sent = || {
        let (flags, payload) = frame();
        assert_eq!(flags, 0);
        let response = StartResponse::decode_from_slice(&payload).unwrap();
        Option::from(response.event)
            .and_then(|event: soulbox_wire::process::ProcessEvent| event.event)
            .unwrap()
    };
    let Sent::Start(start) = sent() else { panic!("no start") };
    assert!(start.pid > 1);
    let Sent::Data(data) = sent() else { panic!("no data") };
    // Field 1, stdout: one byte.
    assert_eq!(data.encode_to_vec(), [0x0a, 1, 0xff]);
    let Sent::End(end) = sent() else { panic!("no end") };
    assert_eq!((end.exit_code, end.status.as_str()), (-1, "signal: killed"));
    // A zig-zag varint: -1 is 1.
    assert_eq!(end.encode_to_vec()[..2], [0x08, 1]);
    assert_eq!(frame(), (2, Bytes::from_static(b"{}")));
}

#[tokio::test]
async fn the_list_shows_what_was_asked_for() {
    let agent = agent();
    let request = json!({
        "process": {
            "cmd": "sleep", "args": ["60"], "envs": {"A": "1"}, "cwd": "/tmp"
        },
        "tag": "mine"
    });
    let mut events = agent.start(request.clone()).await;
    let pid = events.pid().await;
    let list = agent.ok("List", json!({})).await;
    let expected = json!([{"config": request["process"], "pid": pid, "tag": "mine"}]);
    assert_eq!(list["processes"], expected);
    agent.ok("SendSignal", json!({"process": {"tag": "mine"}, "signal": "SIGNAL_SIGKILL"})).await;
    assert_eq!(events.collect().await.status(), "signal: killed");
    eventually("the list is empty", async || agent.pids().await.is_empty()).await;
}
