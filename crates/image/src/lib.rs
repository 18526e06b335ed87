//! Templates: what a sandbox's root file system is made of.
//!
//! Two are built in. `base` is a Debian userland made from Debian's packages on first use; `host`
//! is a read-only view of this machine's `/usr` with an `/etc` of its own and needs no download.
//! This crate makes them, keeps them on disk and finds them by name. It mounts nothing and knows
//! no sandboxes: engines join a template's layers with a sandbox's own.
//!
//! Others are derived from these: a layer that a sandbox of the parent wrote ([`derived`]).
//!
//! Start reading at [`Templates`]; a template is made by a [`Recipe`], of which `base/` and `host/`
//! are two and [`derived::Derived`] is the third.

mod base;
pub mod derived;
mod draft;
mod error;
mod flight;
mod host;
mod prune;
mod recipe;
pub mod registry;
mod settings;
mod template;
mod templates;
mod tree;

pub use error::{Error, Result};
pub use prune::Unused;
pub use recipe::{Description, Recipe, Reporter, Workshop};
pub use template::{Progress, Template, TemplateState, TemplateStatus};
pub use templates::{BASE, HOST, Templates};
