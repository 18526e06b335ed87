//! Runtimes of projects: which one a directory is for. Start with [`detect`].

pub mod detect;
