//! Runtimes of projects. [`detect`] says which one a directory is for, and why.
//!
//! A project's directory is whatever somebody put there: what is read of it is bounded, and no link out of
//! it is followed. Nothing of a project is run here. Start with [`detect::detect`].

pub mod detect;
