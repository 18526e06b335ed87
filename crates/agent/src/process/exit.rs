//! How a process ended, in the words of the protocol.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use soulbox_wire::{process::process_event::EndEvent, signal};

/// What clients are told about the end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// -1 when a signal killed it.
    exit_code: i32,
    exited: bool,
    pub(super) status: String,
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        if let Some(code) = status.code() {
            return Self { exit_code: code, exited: true, status: format!("exit status {code}") };
        }
        let signal = signal::name(status.signal().unwrap_or_default());
        let core = if status.core_dumped() { " (core dumped)" } else { "" };
        Self { exit_code: -1, exited: false, status: format!("signal: {signal}{core}") }
    }
}

impl From<End> for EndEvent {
    fn from(end: End) -> Self {
        let failed = !end.exited || end.exit_code != 0;
        Self {
            exit_code: end.exit_code,
            exited: end.exited,
            error: failed.then(|| end.status.clone()),
            status: end.status,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(raw: i32) -> (i32, bool, String, Option<String>) {
        let event = EndEvent::from(End::from(ExitStatus::from_raw(raw)));
        (event.exit_code, event.exited, event.status, event.error)
    }

    #[test]
    fn follows_the_table_of_the_protocol() {
        assert_eq!(event(0), (0, true, "exit status 0".into(), None));
        let text = "exit status 3".to_owned();
        assert_eq!(event(3 << 8), (3, true, text.clone(), Some(text)));
        let text = "signal: killed".to_owned();
        assert_eq!(event(9), (-1, false, text.clone(), Some(text)));
        let text = "signal: segmentation fault (core dumped)".to_owned();
        assert_eq!(event(11 | 0x80), (-1, false, text.clone(), Some(text)));
        assert_eq!(event(15).2, "signal: terminated");
        assert_eq!(event(40).2, "signal: signal 40");
    }
}
