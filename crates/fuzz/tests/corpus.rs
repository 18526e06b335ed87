//! Every target over its corpus and a bounded number of mutations, the same ones on every machine.
//!
//! `SOULBOX_FUZZ_SECONDS` makes each target run that long instead, on mutations that nobody tried before.

use std::{
    env,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use soulbox_fuzz::{
    TARGETS, Target,
    driver::{self, Until},
};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(target: Target, rounds: u64) {
    let corpus = driver::corpus(&repository().join("fuzz/corpus"), target);
    let seconds = env::var("SOULBOX_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let (until, seed) = match seconds {
        Some(seconds) => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            (Until::Elapsed(Duration::from_secs(seconds)), since.as_nanos() as u64)
        }
        None => (Until::Rounds(rounds), 1),
    };
    let crashes = repository().join("target/fuzz-crashes");
    match driver::run(target, &corpus, until, seed, &crashes) {
        Ok(ran) => println!("{}: {ran:?}", target.name),
        Err(crash) => panic!(
            "{} breaks on {}; fix it and keep the input in fuzz/corpus/{0}",
            crash.target,
            crash.input.display()
        ),
    }
}

macro_rules! targets {
    ($($name:ident: $rounds:expr),* $(,)?) => {
        $(#[test] fn $name() {
            run(soulbox_fuzz::find(stringify!($name)).unwrap(), $rounds);
        })*

        #[test]
        fn every_target_runs_here() {
            let here = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|target| here.contains(&target.name)));
        }
    };
}

targets! {
    gateway_route: 20_000,
    gateway_host: 20_000,
    gateway_headers: 20_000,
    users: 10_000,
    files_multipart: 20_000,
    files_gunzip: 300,
    files_signature: 10_000,
    files_range: 20_000,
    files_encoding: 20_000,
    rpc_connect: 2_000,
    egress_peek: 20_000,
    dns_question: 20_000,
    dns_answer: 20_000,
    request_rule: 20_000,
    placeholders: 20_000,
    rpc_init: 2_000,
    messages: 20_000,
    client_envelopes: 20_000,
    log_lines: 10_000,
    boot: 10_000,
    api_create: 10_000,
    api_bodies: 10_000,
    api_query: 10_000,
    api_names: 20_000,
    api_keys: 10_000,
    project_file: 3_000,
    project_override: 5_000,
    archive: 3_000,
}
