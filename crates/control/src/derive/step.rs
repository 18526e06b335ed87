//! One step of a plan, tried again where the network failed it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use soulbox_image::derived::Step;
use soulbox_model::{BoxError, Error, RetryPolicy};

use super::{
    agent::{Agent, Command},
    outward::Opened,
};

/// What package managers say when the network may do better the next time.
const PASSING: [&str; 20] = [
    "temporary failure in name resolution",
    "temporary failure resolving",
    "eai_again",
    "econnreset",
    "econnrefused",
    "etimedout",
    "err_socket_timeout",
    "connection reset",
    "connection refused",
    "connection aborted",
    "connection timed out",
    "read timed out",
    "operation timed out",
    "remote end closed connection",
    "incompleteread",
    "network is unreachable",
    "socket hang up",
    "502 bad gateway",
    "503 service unavailable",
    "429 too many requests",
];
/// Of a line that is passed on.
const MAX_LINE: usize = 160;
/// Between two lines that are passed on.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs `step`; `say` hears the latest line of what it says.
pub(super) async fn run(
    agent: &Agent<'_>,
    step: &Step,
    outward: Option<&Opened>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(), BoxError> {
    let mut env = outward.map(|outward| outward.env.clone()).unwrap_or_default();
    env.extend(step.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let policy = RetryPolicy::default().for_request(step.retry);
    let began = Instant::now();
    let refusals = || outward.map_or(0, Opened::refusals);
    let done = policy.run(tokio::time::sleep, || attempt(agent, step, &env, began, &refusals, say));
    done.await.map_err(|error| {
        let told = outward.map(Opened::told).unwrap_or_default();
        format!("{}{told}", words(&error)).into()
    })
}

async fn attempt(
    agent: &Agent<'_>,
    step: &Step,
    env: &BTreeMap<String, String>,
    began: Instant,
    refusals: &(dyn Fn() -> usize + Sync),
    say: &(dyn Fn(&str) + Sync),
) -> Result<(), Error> {
    let left = step.timeout.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
    let before = refusals();
    let command = Command { argv: &step.argv, user: &step.user, cwd: &step.cwd, env, limit: left };
    let mut latest = Latest::default();
    let ran = agent.run_command(command, |bytes| latest.hear(bytes, say)).await;
    ran.map_err(|error| {
        let reason = error.to_string();
        // What our own rules refuse, they refuse the next time, too.
        let passes = step.retry && refusals() == before && is_passing(&reason);
        match passes && began.elapsed() < step.timeout {
            true => Error::Unavailable { reason, retry_after: None, source: Some(error) },
            false => Error::internal(reason.clone(), reason),
        }
    })
}

fn words(error: &Error) -> String {
    match error {
        Error::Unavailable { reason, .. } => reason.clone(),
        error => {
            std::error::Error::source(error).map_or_else(|| error.to_string(), |e| e.to_string())
        }
    }
}

/// By what a command said: the first line is its own name, with words of whoever asked for it.
fn is_passing(reason: &str) -> bool {
    let said = reason.split_once('\n').map_or("", |(_, said)| said).to_ascii_lowercase();
    PASSING.iter().any(|words| said.contains(words))
}

/// The latest whole line of a stream, bounded, and told of a few times a second.
#[derive(Default)]
struct Latest {
    begun: Vec<u8>,
    told: Option<Instant>,
}

impl Latest {
    fn hear(&mut self, bytes: &[u8], say: &(dyn Fn(&str) + Sync)) {
        let mut whole = None;
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let room = MAX_LINE.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") || piece.ends_with(b"\r") {
                let line = std::mem::take(&mut self.begun);
                whole = (!line.trim_ascii().is_empty()).then_some(line).or(whole);
            }
        }
        let now = Instant::now();
        let soon = self.told.is_some_and(|told| now.duration_since(told) < PAUSE);
        if let Some(line) = whole.filter(|_| !soon) {
            self.told = Some(now);
            say(String::from_utf8_lossy(&line).trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn lines_are_heard_whole_and_bounded() {
        let heard = Mutex::new(Vec::new());
        let say = |line: &str| heard.lock().push(line.to_owned());
        let mut latest = Latest::default();
        for piece in ["o ", "ne\ntw", "o\r\n\r", "\n", &"x".repeat(1000), "\nlast"] {
            latest.told = None;
            latest.hear(piece.as_bytes(), &say);
        }
        assert_eq!(*heard.lock(), ["o ne", "two", &"x".repeat(MAX_LINE)]);
    }

    #[test]
    fn of_a_flood_a_line_now_and_then_is_heard() {
        let heard = Mutex::new(0);
        let mut latest = Latest::default();
        let began = Instant::now();
        for _ in 0..1000 {
            latest.hear(&b"y\n".repeat(100), &|line| {
                assert_eq!(line, "y");
                *heard.lock() += 1;
            });
        }
        let most = began.elapsed().as_millis() / PAUSE.as_millis() + 1;
        let heard = *heard.lock();
        assert!((1..=most).contains(&heard), "{heard}");
    }

    #[test]
    fn only_failures_of_the_network_pass() {
        let passes = |said: &str| is_passing(&format!("`pip install econnreset`: exit 1\n{said}"));
        assert!(passes("npm error code ECONNRESET"));
        assert!(passes("a\nTemporary failure in name resolution"));
        assert!(!passes("No matching distribution found for nothing"));
        assert!(!passes("npm error 404 Not Found"));
        assert!(!passes("") && !is_passing("`sh econnreset`: 500"));
    }
}
