//! Runs targets without a fuzzer: the corpus as it is, then mutations of it, the same ones every time.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::Target;

/// Words that parsers look for; random bytes rarely become one.
const WORDS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "--",
    "\"",
    "\\",
    "%00",
    "%2e%2e/",
    "../",
    "/",
    ":",
    ";",
    "=",
    ",",
    "-",
    "\0",
    "\n",
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
    "-1",
    "0",
    "65536",
    "4294967295",
    "18446744073709551616",
    "1e999",
    "\u{feff}",
    "\u{202e}",
    "Host: ",
    "Connection: ",
    "e2b-sandbox-id: ",
    "e2b-sandbox-port: ",
    "localhost",
    "49983-",
    ".",
    "[::1]",
    "@",
    "bytes=",
    "utf-8''",
    "Content-Disposition: form-data; name=\"",
    "filename*=",
];

/// How a run went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    pub corpus: usize,
    pub mutations: u64,
}

/// How long to go on with mutations.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    Rounds(u64),
    Elapsed(Duration),
}

/// An input at which a target panicked.
#[derive(Debug)]
pub struct Crash {
    pub target: &'static str,
    /// Where the input lies now.
    pub input: PathBuf,
}

/// The inputs of a target in the directory of the corpus, sorted by name.
///
/// # Panics
/// If there are none: a target without a corpus tries next to nothing.
pub fn corpus(root: &Path, target: Target) -> Vec<Vec<u8>> {
    let directory = root.join(target.name);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.sort();
    assert!(!files.is_empty(), "no corpus in {}", directory.display());
    files.iter().map(|file| fs::read(file).unwrap_or_default()).collect()
}

/// Runs the corpus, then mutations. A crash is written to `crashes`.
///
/// # Errors
/// The first crash.
pub fn run(
    target: Target,
    corpus: &[Vec<u8>],
    until: Until,
    seed: u64,
    crashes: &Path,
) -> Result<Ran, Crash> {
    for input in corpus {
        attempt(target, input, crashes)?;
    }
    let mut random = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut mutations = 0;
    loop {
        let over = match until {
            Until::Rounds(rounds) => mutations >= rounds,
            Until::Elapsed(limit) => began.elapsed() >= limit,
        };
        if over {
            return Ok(Ran { corpus: corpus.len(), mutations });
        }
        let input = mutate(corpus, target.max_len, &mut random);
        attempt(target, &input, crashes)?;
        mutations += 1;
    }
}

fn attempt(target: Target, input: &[u8], crashes: &Path) -> Result<(), Crash> {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok() {
        return Ok(());
    }
    let name = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = crashes.join(format!("{}-{name:016x}", target.name));
    let _ = fs::create_dir_all(crashes);
    let _ = fs::write(&path, input);
    Err(Crash { target: target.name, input: path })
}

fn mutate(corpus: &[Vec<u8>], max_len: usize, random: &mut StdRng) -> Vec<u8> {
    let mut input = corpus[random.random_range(0..corpus.len())].clone();
    for _ in 0..random.random_range(1..=6) {
        step(&mut input, corpus, random);
    }
    input.truncate(max_len);
    input
}

fn step(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len().min(at + 64));
    match random.random_range(0..8) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random(),
        2 => input.insert(at, random.random()),
        3 => drop(input.drain(at..end)),
        4 => {
            let piece = input[at..end].to_vec();
            let to = random.random_range(0..=input.len());
            input.splice(to..to, piece);
        }
        5 => {
            let word = WORDS[random.random_range(0..WORDS.len())];
            input.splice(at..at, word.bytes());
        }
        6 => {
            let other = &corpus[random.random_range(0..corpus.len())];
            let from = random.random_range(0..=other.len());
            let to = random.random_range(from..=other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        _ => input.truncate(at),
    }
}
