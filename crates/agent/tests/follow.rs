//! Following and steering processes: clients that come and go, signals, limits, input.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Event, agent, base64, envelope, eventually, exists, shell};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn a_process_outlives_its_client_and_keeps_writing() {
    let agent = agent();
    let marker = tempfile::tempdir().unwrap().keep().join("done");
    let script = format!("head -c 10000000 /dev/zero; echo x > {}", marker.display());
    let mut events = agent.sh(&script).await;
    events.pid().await;
    drop(events);
    eventually("output without a reader is thrown away", async || marker.exists()).await;
    eventually("the process is gone", async || agent.pids().await.is_empty()).await;
}

#[tokio::test]
async fn who_connects_sees_only_what_comes_after() {
    let agent = agent();
    let go = tempfile::tempdir().unwrap().keep().join("go");
    let script = format!(
        "echo before; until [ -e {} ]; do sleep 0.01; done; echo after; exit 4",
        go.display()
    );
    let mut first = agent.sh(&script).await;
    let pid = first.pid().await;
    assert_eq!(first.next().await, Event::Stdout(b"before\n".to_vec()));
    let mut second = agent.connect(pid).await;
    assert_eq!(second.pid().await, pid);
    std::fs::write(go, "").unwrap();
    for client in [&mut first, &mut second] {
        let output = client.collect().await;
        assert_eq!((output.stdout(), output.status()), ("after\n", "exit status 4"));
    }
}

#[tokio::test]
async fn the_exit_can_be_asked_for_afterwards() {
    let agent = agent();
    let mut request = shell("echo gone; exit 5");
    request["tag"] = json!("job");
    let mut events = agent.start(request).await;
    let pid = events.pid().await;
    events.collect().await;
    for selector in [json!({"pid": pid}), json!({"tag": "job"})] {
        let mut late = agent.stream("Connect", &[], json!({"process": selector})).await;
        assert_eq!(late.next().await, Event::Start(pid));
        let text = "exit status 5".to_owned();
        assert_eq!(late.next().await, Event::End(5, true, text.clone(), Some(text)));
        assert_eq!(late.next().await, Event::Closed(None));
    }
    let signal = json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"});
    assert_eq!(agent.code("SendSignal", signal).await, "not_found");
}

#[tokio::test]
async fn what_the_agent_did_not_start_is_not_found() {
    let agent = agent();
    for pid in [1, std::process::id(), 4_000_000_000] {
        let process = json!({"process": {"pid": pid}});
        let connected = agent.stream("Connect", &[], process.clone()).await.collect().await;
        let text = format!("process with pid {pid} not found");
        assert_eq!(connected.error, Some(("not_found".into(), text)));
        assert_eq!(agent.code("CloseStdin", process.clone()).await, "not_found");
        assert_eq!(agent.code("Update", process.clone()).await, "not_found");
        assert_eq!(agent.code("SendSignal", process).await, "not_found");
    }
    let connected = agent.stream("Connect", &[], json!({})).await.collect().await;
    assert_eq!(connected.error_code(), "unimplemented");
    let tag = agent.unary("CloseStdin", json!({"process": {"tag": "x"}})).await;
    assert_eq!(tag.json()["message"], "process with tag x not found");
}

#[tokio::test]
async fn the_time_limit_kills() {
    let agent = agent();
    let started = Instant::now();
    let mut events =
        agent.stream("Start", &[("connect-timeout-ms", "2000")], shell("echo on; sleep 60")).await;
    let pid = events.pid().await;
    let mut other = agent.connect(pid).await;
    let output = events.collect().await;
    assert_eq!((output.stdout(), output.error_code()), ("on\n", "deadline_exceeded"));
    assert_eq!(other.collect().await.status(), "signal: killed");
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert!(started.elapsed() < Duration::from_secs(15));
    assert!(!exists(pid));
}

#[tokio::test]
async fn the_limit_of_a_connection_ends_the_stream_alone() {
    let agent = agent();
    let pid = agent.sh("sleep 60").await.pid().await;
    let process = json!({"process": {"pid": pid}});
    let connected =
        agent.stream("Connect", &[("connect-timeout-ms", "100")], process).await.collect().await;
    assert_eq!(connected.error_code(), "deadline_exceeded");
    sleep(Duration::from_millis(50)).await;
    assert_eq!(agent.pids().await, [pid]);
    agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": 9})).await;
}

#[tokio::test]
async fn an_end_waits_for_whoever_holds_the_output_unless_it_was_a_kill() {
    let agent = agent();
    let started = Instant::now();
    let output = agent.run("(sleep 0.5; echo child) & echo parent").await;
    assert_eq!(output.stdout(), "parent\nchild\n");
    assert!(started.elapsed() >= Duration::from_millis(500));

    for (signal, status) in [("SIGNAL_SIGKILL", "killed"), ("SIGNAL_SIGTERM", "terminated")] {
        let mut events = agent.sh("sleep 60 & echo $!; wait").await;
        let pid = events.pid().await;
        let Event::Stdout(child) = events.next().await else { panic!("no output") };
        let child: u32 = String::from_utf8(child).unwrap().trim().parse().unwrap();
        agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": signal})).await;
        let asked = Instant::now();
        assert_eq!(events.collect().await.status(), format!("signal: {status}"));
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert!(exists(child), "only the one process is hit");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(child.cast_signed()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    }
}

#[tokio::test]
async fn who_was_killed_is_gone_when_the_kill_is_answered() {
    let agent = agent();
    for _ in 0..20 {
        let pid = agent.sh("sleep 60 & wait").await.pid().await;
        let kill = json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"});
        agent.ok("SendSignal", kill.clone()).await;
        assert_eq!(agent.code("SendSignal", kill).await, "not_found");
        assert_eq!(agent.pids().await, [0; 0]);
    }
}

#[tokio::test]
async fn what_was_written_before_a_kill_arrives() {
    let agent = agent();
    let mut events = agent
        .sh("trap 'echo cleaning up; exit 9' TERM; echo on; while :; do sleep 0.01; done")
        .await;
    let pid = events.pid().await;
    assert_eq!(events.next().await, Event::Stdout(b"on\n".to_vec()));
    agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGTERM"})).await;
    let output = events.collect().await;
    assert_eq!((output.stdout(), output.status()), ("cleaning up\n", "exit status 9"));
}

#[tokio::test]
async fn other_signals_are_not_sent() {
    let agent = agent();
    let pid = agent.sh("sleep 60").await.pid().await;
    for signal in [json!(1), json!("SIGNAL_UNSPECIFIED"), json!(64)] {
        let request = json!({"process": {"pid": pid}, "signal": signal});
        assert_eq!(agent.code("SendSignal", request).await, "unimplemented");
    }
    assert_eq!(agent.pids().await, [pid]);
    agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": 9})).await;
}

#[tokio::test]
async fn input_arrives_in_order_until_it_is_closed() {
    let agent = agent();
    // `stdin` is not given: there is one.
    let mut events = agent.start(json!({"process": {"cmd": "cat"}})).await;
    let pid = events.pid().await;
    let mut expected = Vec::new();
    for n in 0..20_u8 {
        // More than a pipe holds: the writer has to wait for the reader.
        let bytes = vec![b'a' + n; 100_000];
        let input = json!({"process": {"pid": pid}, "input": {"stdin": base64(&bytes)}});
        agent.ok("SendInput", input).await;
        expected.extend(bytes);
    }
    agent.ok("CloseStdin", json!({"process": {"pid": pid}})).await;
    let output = events.collect().await;
    assert!(output.stdout == expected);
    assert_eq!(output.status(), "exit status 0");

    let pid = agent.start(json!({"process": {"cmd": "sleep", "args": ["60"]}})).await.pid().await;
    for _ in 0..2 {
        agent.ok("CloseStdin", json!({"process": {"pid": pid}})).await;
    }
    agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": 9})).await;
}

#[tokio::test]
async fn input_that_cannot_be_taken_is_refused() {
    let agent = agent();
    let pid = agent.sh("sleep 60").await.pid().await;
    let process = json!({"pid": pid});
    let send =
        async |input| agent.code("SendInput", json!({"process": process, "input": input})).await;
    assert_eq!(send(json!({"stdin": base64(b"x")})).await, "internal");
    assert_eq!(send(json!({"pty": base64(b"x")})).await, "internal");
    assert_eq!(send(json!({})).await, "unimplemented");
    let size = json!({"process": process, "pty": {"size": {"cols": 1, "rows": 1}}});
    assert_eq!(agent.code("Update", size).await, "internal");
    agent.ok("Update", json!({"process": process})).await;
    agent.ok("CloseStdin", json!({"process": process})).await;
    agent.ok("SendSignal", json!({"process": process, "signal": 9})).await;

    let mut events = agent
        .start(json!({"process": {"cmd": "sh", "args": ["-c", "exec <&-; echo closed; sleep 60"]}}))
        .await;
    let pid = events.pid().await;
    events.until(|event| matches!(event, Event::Stdout(_))).await;
    let input = json!({"process": {"pid": pid}, "input": {"stdin": base64(b"x")}});
    assert_eq!(agent.code("SendInput", input).await, "internal");
    agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": 9})).await;
}

#[tokio::test]
async fn input_for_a_process_that_ended_finds_none_though_its_output_is_held_open() {
    let agent = agent();
    let mut events = agent.sh("sleep 60 <&- & echo $!").await;
    let pid = events.pid().await;
    let Event::Stdout(child) = events.until(|event| matches!(event, Event::Stdout(_))).await else {
        panic!("the child's pid");
    };
    eventually("the shell ended", async || agent.pids().await.is_empty()).await;
    let input = json!({"process": {"pid": pid}, "input": {"stdin": base64(b"x")}});
    assert_eq!(agent.code("SendInput", input).await, "not_found");
    let child = String::from_utf8(child).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(events.collect().await.status(), "exit status 0");
}

#[tokio::test]
async fn a_stream_of_input() {
    let agent = agent();
    let mut events = agent.start(json!({"process": {"cmd": "cat"}, "tag": "cat"})).await;
    events.pid().await;
    let messages = [
        json!({"start": {"process": {"tag": "cat"}}}),
        json!({"data": {"input": {"stdin": base64(b"one ")}}}),
        json!({"keepalive": {}}),
        json!({"data": {"input": {"stdin": base64(b"two")}}}),
    ];
    let stream = async |messages: &[serde_json::Value]| {
        let body: Vec<u8> =
            messages.iter().flat_map(|message| envelope(message.to_string().as_bytes())).collect();
        let request = http::Request::post("/process.Process/StreamInput")
            .header("host", "agent")
            .header("content-type", "application/connect+json");
        let answer = agent.call(request.body(body.into()).unwrap()).await;
        String::from_utf8_lossy(&answer.body).into_owned()
    };
    assert_eq!(stream(&messages).await, "\0\0\0\0\u{2}{}\u{2}\0\0\0\u{2}{}");
    assert!(stream(&messages[1..]).await.contains("invalid_argument"));
    agent.ok("CloseStdin", json!({"process": {"tag": "cat"}})).await;
    assert_eq!(events.collect().await.stdout(), "one two");
}

#[tokio::test]
async fn a_silent_process_shows_signs_of_life() {
    let agent = agent();
    let headers = [("keepalive-ping-interval", "1")];
    let go = tempfile::tempdir().unwrap().keep().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.01; done; echo on; sleep 60", go.display());
    let mut events = agent.stream("Start", &headers, shell(&script)).await;
    let pid = events.pid().await;
    assert_eq!(events.next().await, Event::Keepalive);
    std::fs::write(go, "").unwrap();
    let more = events.until(|event| *event != Event::Keepalive).await;
    assert_eq!(more, Event::Stdout(b"on\n".to_vec()));
    assert_eq!(events.next().await, Event::Keepalive);
    agent.ok("SendSignal", json!({"process": {"pid": pid}, "signal": 9})).await;
    assert_eq!(events.collect().await.status(), "signal: killed");
}

/// As PID 1 the agent inherits orphans: they must not stay as zombies, and waiting for them must
/// not cost a started process its exit status.
#[test]
fn orphans_are_reaped_by_pid_1() {
    let test = std::env::current_exe().unwrap();
    let status = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(test)
        .args(["--exact", "as_pid_1", "--ignored", "--test-threads", "1"])
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
#[ignore = "run by orphans_are_reaped_by_pid_1"]
async fn as_pid_1() {
    assert_eq!(std::process::id(), 1);
    let agent = agent();
    for n in 0..20 {
        // The inner shell ends at once and leaves its child to PID 1.
        let output = agent.run(&format!("sh -c 'sleep 0.05 >&- 2>&- & exec true'; exit {n}")).await;
        assert_eq!(output.end.unwrap().0, n);
    }
    let others = || {
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != 1)
            .count()
    };
    eventually("every orphan is gone", async || others() == 0).await;
}
