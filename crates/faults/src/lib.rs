//! Named points in the life of a sandbox at which a test may end the server, as a crash would.
//!
//! Between any two steps that outlive the process stands a [`point`]. In what is shipped it is
//! nothing. With the feature `armed`, a server whose environment has `SOULBOX_FAULT_FILE` looks at every
//! point into that file, so that a test can arm one while the server runs: it holds the name of a
//! point, and after a colon, if it is not the first pass from now on that is meant, which one. There
//! the process sends itself SIGKILL: no destructor runs, nothing is flushed.
//!
//! The same points say where the time goes: with `SOULBOX_POINT_TIMES` each pass adds a line to that
//! file (`scripts/create-steps` makes a table of them).
//!
//! Not for errors that a step returns: those have tests of their own. Start at `tests/faults`, which
//! has a scenario for every point.

/// Ends the process here if a test says so.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub fn point(_name: &'static str) {}

#[cfg(feature = "armed")]
pub use armed::point;

#[cfg(feature = "armed")]
mod armed;
#[cfg(feature = "armed")]
mod clock;
