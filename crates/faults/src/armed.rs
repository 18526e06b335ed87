//! Points that can be armed.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};

const FILE: &str = "SOULBOX_FAULT_FILE";

/// Ends the process here if a test says so.
pub fn point(name: &'static str) {
    crate::clock::note(name);
    static WHERE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let path = WHERE.get_or_init(|| std::env::var_os(FILE).map(PathBuf::from));
    let Some(order) = path.as_ref().and_then(|path| fs::read_to_string(path).ok()) else { return };
    if is_due(&order, name) {
        let _ = kill_process(getpid(), Signal::KILL);
        // The signal comes at once; nothing must happen before it does.
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Counts a pass of the point that `order` names.
fn is_due(order: &str, name: &str) -> bool {
    static PASSES: Mutex<Option<HashMap<String, u32>>> = Mutex::new(None);
    let order = order.trim();
    let (named, nth) = match order.split_once(':') {
        Some((named, nth)) => (named, nth.parse().unwrap_or(1)),
        None => (order, 1),
    };
    if named != name {
        return false;
    }
    let mut passes = PASSES.lock().unwrap_or_else(PoisonError::into_inner);
    let count = passes.get_or_insert_default().entry(order.to_owned()).or_insert(0);
    *count += 1;
    *count >= nth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pass_that_is_named_is_due_and_no_other_point() {
        assert!(!is_due("here:3\n", "there"));
        let due: Vec<bool> = (0..4).map(|_| is_due("here:3\n", "here")).collect();
        assert_eq!(due, [false, false, true, true]);
        assert!(is_due("elsewhere", "elsewhere"));
        assert!(!is_due("", "here"));
    }
}
