//! The attack battery: hostile programs that run in real sandboxes, hostile requests to a real
//! server, and what the host has to look like afterwards.
//!
//! Each [`Attack`] is data (a stable id, a title, the defence that should hold) and a function that
//! carries it out and looks at the host's side. Programs that run inside lie in `programs/`, one
//! file each. What an attack finds is [`Finding`]: held, broken, or skipped with the reason.
//!
//! This crate starts no server and prints nothing: it gets a [`Ground`] to fight on. Everything
//! blocks; callers give it a thread. Start with [`run`], then read any file below `attacks/`.

mod agent;
mod attack;
pub mod attacks;
mod field;
mod footing;
mod ground;
mod host;
mod http;
mod runner;
mod sandbox;
mod table;

pub use attack::{Attack, Fault, Finding, Group, How, Outcome, Who};
pub use ground::Ground;
pub use runner::{Battery, Line, Selection, UnknownAttack, run};
pub use table::markdown;
