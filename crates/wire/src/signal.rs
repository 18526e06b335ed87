//! Signals as the agent names them at the end of a process: in Go's words.

const NAMES: [&str; 31] = [
    "hangup",
    "interrupt",
    "quit",
    "illegal instruction",
    "trace/breakpoint trap",
    "aborted",
    "bus error",
    "floating point exception",
    "killed",
    "user defined signal 1",
    "segmentation fault",
    "user defined signal 2",
    "broken pipe",
    "alarm clock",
    "terminated",
    "stack fault",
    "child exited",
    "continued",
    "stopped (signal)",
    "stopped",
    "stopped (tty input)",
    "stopped (tty output)",
    "urgent I/O condition",
    "CPU time limit exceeded",
    "file size limit exceeded",
    "virtual timer expired",
    "profiling timer expired",
    "window changed",
    "I/O possible",
    "power failure",
    "bad system call",
];

/// `killed`, or `signal 40` for one without a name.
pub fn name(signal: i32) -> String {
    let index = usize::try_from(signal).ok().and_then(|number| number.checked_sub(1));
    match index.and_then(|index| NAMES.get(index)) {
        Some(name) => (*name).to_owned(),
        None => format!("signal {signal}"),
    }
}

/// The signal of this [`name`].
pub fn number(name: &str) -> Option<u8> {
    match NAMES.iter().position(|known| *known == name) {
        Some(index) => u8::try_from(index + 1).ok(),
        None => name.strip_prefix("signal ")?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_found_by_its_name() {
        assert_eq!((name(9), name(31)), ("killed".to_owned(), "bad system call".to_owned()));
        for signal in 1..=64 {
            assert_eq!(number(&name(signal)).map(i32::from), Some(signal));
        }
        assert_eq!(number("killed (core dumped)"), None);
    }
}
