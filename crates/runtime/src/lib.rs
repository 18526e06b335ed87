//! Runtimes: which one a project is for, how each runs code in a sandbox, and what its template is
//! made of.
//!
//! A project's directory is whatever somebody put there: what is read of it is bounded, and no link out of
//! it is followed. Nothing is run here, and neither servers nor sandboxes are known. Start with
//! [`detect::detect`] and [`adapters::Adapter`].

pub mod adapters;
pub mod dependencies;
pub mod detect;
