//! The router over a real control plane: what strangers send and what they get.
//!
//! Sandboxes are processes of the engine that `control` is tested with; nothing is isolated here,
//! and nothing needs to be. `server` is what tests talk to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

#[allow(dead_code, reason = "control's own tests use all of it")]
#[path = "../../../control/tests/control/machine.rs"]
mod machine;

mod auth;
mod bad_input;
mod create;
mod document;
mod ingress;
mod keys;
mod life;
mod lists;
mod observe;
mod secrets;
mod server;
mod surroundings;
mod templates;
