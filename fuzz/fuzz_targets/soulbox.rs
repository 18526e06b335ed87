//! One program for all targets, as linking each on its own takes longer than building them all.
//! `SOULBOX_FUZZ_TARGET` names the one to run.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use soulbox_fuzz::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("SOULBOX_FUZZ_TARGET").unwrap_or_default();
    soulbox_fuzz::find(&name).unwrap_or_else(|| {
        let names: Vec<_> = soulbox_fuzz::TARGETS.iter().map(|target| target.name).collect();
        panic!("set SOULBOX_FUZZ_TARGET to one of {}", names.join(", "))
    })
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
