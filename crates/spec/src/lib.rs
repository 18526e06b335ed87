//! The project file `soulbox.toml`: what an image is started from, how, and what it may use.
//!
//! [`Project::parse`] turns text into a [`Project`] that cannot hold a wrong value, or into all the
//! [`Diagnostics`] that the text earns, each with its place. [`keys`] is the one table of what may stand in
//! the file, for the parser and the overrides. This crate starts nothing and resolves no secret:
//! it says by name which ones are wanted. Start with [`project`] and [`keys`].

pub mod diagnostic;
#[doc(hidden)]
pub mod fuzzing;
pub mod keys;
pub mod overrides;
pub mod project;
mod read;
mod suggest;
mod tree;
mod validate;
pub mod value;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use overrides::Override;
pub use project::{Commands, Identity, Limits, Network, Project, Security, TemplateSpec};
pub use value::{BaseImage, Part, Text, VersionRequest};
