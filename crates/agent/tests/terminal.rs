//! Terminals: size, echo, signals, end.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use support::{Agent, Event, Events, agent, base64};

async fn terminal(agent: &Agent, script: &str, size: Value) -> (u32, Events) {
    let request = json!({
        "process": {"cmd": "/bin/sh", "args": ["-c", script], "envs": {"TERM": "xterm-256color"}},
        "pty": {"size": size}
    });
    let mut events = agent.start(request).await;
    (events.pid().await, events)
}

/// Reads until the text has come.
async fn expect(events: &mut Events, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        match events.next().await {
            Event::Pty(bytes) => seen.extend(bytes),
            other => panic!("{other:?} instead of {text:?} after {seen:?}"),
        }
    }
}

async fn send(agent: &Agent, pid: u32, text: &str) {
    let input = json!({"process": {"pid": pid}, "input": {"pty": base64(text.as_bytes())}});
    agent.ok("SendInput", input).await;
}

#[tokio::test]
async fn a_process_gets_a_controlling_terminal_of_the_size_asked_for() {
    let agent = agent();
    let script = "stty size; tty; echo to the tty > /dev/tty; echo $TERM";
    let (_, mut events) = terminal(&agent, script, json!({"cols": 81, "rows": 25})).await;
    let output = events.collect().await;
    let text = String::from_utf8(output.pty).unwrap();
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!((lines[0], lines[2], lines[3]), ("25 81", "to the tty", "xterm-256color"));
    assert!(lines[1].starts_with("/dev/pts/"));
    assert_eq!(output.end.unwrap().2, "exit status 0");
}

#[tokio::test]
async fn a_new_size_is_told() {
    let agent = agent();
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done";
    let (pid, mut events) = terminal(&agent, script, json!({"cols": 80, "rows": 24})).await;
    expect(&mut events, "ready").await;
    let size = json!({"process": {"pid": pid}, "pty": {"size": {"cols": 20, "rows": 10}}});
    agent.ok("Update", size).await;
    expect(&mut events, "10 20").await;
    let large = json!({"process": {"pid": pid}, "pty": {"size": {"cols": 70000, "rows": 10}}});
    assert_eq!(agent.code("Update", large).await, "invalid_argument");
    // Ctrl-C goes through the terminal to the foreground process group.
    send(&agent, pid, "\x03").await;
    assert_eq!(events.collect().await.status(), "signal: interrupt");
}

#[tokio::test]
async fn input_is_echoed_and_read() {
    let agent = agent();
    let script = "echo ready; read line; echo got $line";
    let (pid, mut events) = terminal(&agent, script, json!({"cols": 80, "rows": 24})).await;
    expect(&mut events, "ready").await;
    let stdin = json!({"process": {"pid": pid}, "input": {"stdin": base64(b"x")}});
    assert_eq!(agent.code("SendInput", stdin).await, "internal");
    assert_eq!(agent.code("CloseStdin", json!({"process": {"pid": pid}})).await, "unknown");
    send(&agent, pid, "hello\n").await;
    let output = events.collect().await;
    let text = String::from_utf8(output.pty).unwrap();
    assert_eq!(text.trim_start(), "hello\r\ngot hello\r\n");
}

#[tokio::test]
async fn a_killed_shell_ends_although_its_children_keep_the_terminal() {
    let agent = agent();
    let script = "trap '' HUP; sleep 60 & echo ready; wait";
    let (pid, mut events) = terminal(&agent, script, json!({"cols": 80, "rows": 24})).await;
    expect(&mut events, "ready").await;
    agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})).await;
    assert_eq!(events.collect().await.status(), "signal: killed");
    assert!(agent.pids().await.is_empty());
}

#[tokio::test]
async fn a_lot_of_output_is_complete() {
    let agent = agent();
    let (_, mut events) = terminal(&agent, "seq 100000", json!({"cols": 80, "rows": 24})).await;
    let output = events.collect().await;
    let expected: String = (1..=100_000).map(|n| format!("{n}\r\n")).collect();
    assert!(output.pty == expected.as_bytes());
}
