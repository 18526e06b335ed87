//! Control over a real database and an engine whose sandboxes are real processes.
//!
//! `machine` is what survives a crash of the server (processes, sockets); `world` is a server on it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod create;
mod end;
mod keys;
mod lists;
mod logs;
mod machine;
mod metrics;
mod repeat;
mod restart;
mod secrets;
mod timeouts;
mod world;
