//! Runtimes: which one a project is for, how each runs code in a sandbox, and what its template is
//! made of.
//!
//! It says what to run and what to put where; it starts nothing itself and knows neither servers
//! nor sandboxes. Start with [`detect`] and [`adapters::Adapter`].

pub mod adapters;
pub mod detect;
