//! Package registries as sources of archives: what is fetched is what its hash says, or nothing.
//!
//! This machine's own settings say where packages come from, as for every other installation on it; the
//! hash is part of the plan, so that no registry decides what gets in. Debian's packages are the exception: they
//! are what the archive signs, as in the base template.

mod debian;
mod fetch;
mod npm;

pub use debian::Debian;
pub use npm::Npm;
