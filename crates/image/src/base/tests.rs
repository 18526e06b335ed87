//! What a failed or abandoned build does, with the real mmdebstrap. Needs root, as a build does.

use std::{fs, path::Path, sync::Arc, time::Duration};

use super::*;
use crate::{TemplateState, Templates};

/// A proxy that nobody listens on.
const NO_PROXY_THERE: &str = "http://127.0.0.1:9";

fn can_build() -> bool {
    let tool = Path::new("/usr/bin/mmdebstrap").exists();
    if !tool || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root and mmdebstrap");
        return false;
    }
    true
}

fn drafts(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".lock").collect()
}

#[test]
fn a_failed_build_says_what_to_do_and_leaves_nothing() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let proxy = ["http_proxy", "https_proxy"].map(|name| (name.to_owned(), NO_PROXY_THERE.into()));
    let base = Base { environment: proxy.to_vec() };
    let templates = Templates::with_recipes(dir.path().into(), vec![Arc::new(base)]).unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(templates.build(BASE, |_| ())).unwrap_err().to_string();
    assert!(error.contains("the Debian mirror cannot be reached"), "{error}");
    assert!(error.contains("127.0.0.1"), "the cause is missing: {error}");
    assert_eq!(drafts(dir.path()), [""; 0]);

    let refused = templates.resolve(BASE).unwrap_err().to_string();
    assert!(refused.contains("its build failed"), "{refused}");
}

/// Command lines of processes that name something below `dir`.
fn processes_in(dir: &Path) -> Vec<String> {
    let name = dir.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|e| {
        fs::read_link(e.path().join("exe")).ok()?; // zombies have none
        let line = fs::read(e.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(name)).collect()
}

#[test]
fn an_abandoned_build_ends_and_leaves_nothing() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let base = Base::from_environment();
    let templates = Templates::with_recipes(dir.path().into(), vec![Arc::new(base)]).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();

    runtime.block_on(async {
        let seen = Arc::new(tokio::sync::Notify::new());
        let extracting = seen.clone();
        let build = templates.build(BASE, move |progress| {
            if progress.percent >= 6 {
                extracting.notify_one();
            }
        });
        tokio::select! {
            result = build => panic!("ended before it was abandoned: {result:?}"),
            () = seen.notified() => {}
        }
    });
    assert!(!drafts(dir.path()).is_empty(), "abandoned before it began");

    for _ in 0..100 {
        if drafts(dir.path()).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(drafts(dir.path()), [""; 0]);
    assert_eq!(processes_in(dir.path()), [""; 0]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()), "{mounts}");
    assert!(matches!(templates.list()[0].state, TemplateState::Missing { error: None }));
}

const DIR_OF_VICTIM: &str = "SOULBOX_TEST_BUILD_DIR";

/// Runs itself a second time as the process that is killed.
#[test]
fn the_build_of_a_killed_server_ends_and_the_next_start_is_clean() {
    if let Some(dir) = std::env::var_os(DIR_OF_VICTIM) {
        let templates = Templates::open(dir.into()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(templates.build(BASE, |_| ())).unwrap();
        return;
    }
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "base::tests::the_build_of_a_killed_server_ends_and_the_next_start_is_clean",
        ])
        .env(DIR_OF_VICTIM, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let within = |limit: u32, mut condition: Box<dyn FnMut() -> bool + '_>| {
        (0..limit * 10).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            condition()
        })
    };
    let unpacked = dir.path().to_owned();
    assert!(within(
        200,
        Box::new(move || {
            let draft = drafts(&unpacked).pop();
            draft.is_some_and(|d| unpacked.join(d).join("content/rootfs/usr/bin/dpkg").exists())
        })
    ));
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(within(30, Box::new(|| processes_in(dir.path()).is_empty())));

    assert_ne!(drafts(dir.path()), [""; 0]);
    let templates = Templates::open(dir.path().into()).unwrap();
    assert_eq!(drafts(dir.path()), [""; 0]);
    assert!(matches!(templates.list()[0].state, TemplateState::Missing { error: None }));
}

#[test]
fn the_log_keeps_errors_and_the_last_lines() {
    let mut log = Log::default();
    log.push("E: Could not get lock".into());
    (0..100).for_each(|n| log.push(format!("line {n}")));
    let lines = log.lines();
    assert_eq!(lines.len(), LOG_LINES + 1);
    assert_eq!(lines.first().map(String::as_str), Some("line 88"));
    assert_eq!(lines.last().map(String::as_str), Some("E: Could not get lock"));
}

#[test]
fn lines_are_split_bounded_and_complete() {
    let text = [b"one\ntwo\r\n".to_vec(), vec![b'x'; 10_000], b"\n\nlast \xff".to_vec()].concat();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lines = runtime.block_on(async {
        let mut lines = Lines::new(Some(&text[..]));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line);
        }
        all
    });
    assert_eq!(lines, ["one", "two", &"x".repeat(LOG_LINE_BYTES), "", "last \u{fffd}"]);
}
