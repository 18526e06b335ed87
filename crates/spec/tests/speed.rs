//! Reading a project file takes 1 ms at most: it is done on every command.

use std::time::{Duration, Instant};

use soulbox_spec::{Project, fuzzing::FULL};

#[test]
fn a_file_with_every_key_is_read_within_a_millisecond() {
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            assert!(Project::parse(FULL, "soulbox.toml").is_ok());
            began.elapsed()
        })
        .collect();
    times.sort();
    let median = times[times.len() / 2];
    println!("parsed and validated in {median:?} (median of 200, {:?} at worst)", times[199]);
    assert!(median <= Duration::from_millis(1), "{median:?}");
}
