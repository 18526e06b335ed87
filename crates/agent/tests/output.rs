//! Output: complete, unchanged, and never more of it in memory than a bound.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{fs, time::Duration};

use serde_json::json;
use support::{agent, eventually};
use tokio::time::sleep;

/// Memory of this process, which the agent is part of, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_line_of_three_megabytes() {
    let agent = agent();
    let output = agent.run("head -c 3000000 /dev/zero | tr '\\0' x; echo").await;
    assert_eq!(output.stdout.len(), 3_000_001);
    assert!(output.stdout[..3_000_000].iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn every_byte_arrives_as_it_was() {
    let agent = agent();
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> =
        (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&file, &bytes).unwrap();
    let path = file.path().display();
    let output = agent.run(&format!("cat {path}; cat {path} >&2")).await;
    assert!(output.stdout == bytes && output.stderr == bytes);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_the_process() {
    const TOTAL: usize = 64 << 20;
    let agent = agent();
    let marker = tempfile::tempdir().unwrap().keep().join("done");
    let before = resident();
    let mut events =
        agent.sh(&format!("head -c {TOTAL} /dev/zero; echo x > {}", marker.display())).await;
    events.pid().await;
    sleep(Duration::from_millis(500)).await;
    assert!(!marker.exists(), "the process must wait");
    let grown = resident().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
    assert_eq!(events.collect().await.stdout.len(), TOTAL);
    assert!(marker.exists());
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_a_kill() {
    let agent = agent();
    let mut slow = agent.sh("yes").await;
    let pid = slow.pid().await;
    sleep(Duration::from_millis(300)).await;
    agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": 9})).await;
    eventually("the process is gone", async || agent.pids().await.is_empty()).await;
    assert_eq!(agent.connect(pid).await.collect().await.status(), "signal: killed");
    assert_eq!(slow.collect().await.status(), "signal: killed");
}

#[tokio::test]
async fn a_flood_on_one_output_does_not_silence_the_other() {
    let agent = agent();
    let mut events = agent.sh("yes & sleep 0.2; echo here >&2; sleep 60").await;
    let pid = events.pid().await;
    events.until(|event| *event == support::Event::Stderr(b"here\n".to_vec())).await;
    agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": 9})).await;
    events.collect().await;
}
