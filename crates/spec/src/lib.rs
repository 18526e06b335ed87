//! The project file `soulbox.toml`: what an image is started from, how, and what it may use.
//!
//! [`Project::parse`] turns text into a [`Project`] that cannot hold a wrong value, or into all the
//! [`Diagnostics`] that the text earns, each with its place. [`keys`] is the one table of what may stand in
//! the file; the parser, the overrides, the JSON [`schema`] and the documentation are held against it.
//! [`load`] finds and reads the file of a directory. This crate starts nothing and resolves no secret:
//! it says by name which ones are wanted. Start with [`project`] and [`keys`].

pub mod diagnostic;
pub mod edit;
#[doc(hidden)]
pub mod fuzzing;
pub mod init;
pub mod keys;
pub mod load;
pub mod overrides;
pub mod project;
mod read;
mod rules;
pub mod schema;
pub mod show;
mod suggest;
mod tree;
mod validate;
pub mod value;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use load::{Against, FILE_NAME, LoadError, MAX_BYTES, ProjectDir};
pub use overrides::Override;
pub use project::{Commands, Identity, Limits, Network, Project, Security, TemplateSpec};
pub use value::{BaseImage, Part, Text, VersionRequest};
