//! Templates: what a sandbox's root file system is made of.
//!
//! Two are built in. `base` is a Debian userland made from Debian's packages on first use; `host`
//! is a read-only view of this machine's `/usr` with an `/etc` of its own and needs no download.
//! This crate makes them, keeps them on disk and finds them by name. It mounts nothing and knows
//! no sandboxes: engines join a template's layers with a sandbox's own.
//!
//! Start reading at [`Templates`]; a template is made by a `Recipe` (`recipe.rs`), of which
//! `base/` and `host/` are the two.

mod base;
mod draft;
mod error;
mod host;
mod recipe;
mod settings;
mod template;
mod templates;
mod tree;

pub use error::{Error, Result};
pub use template::{Progress, Template, TemplateState, TemplateStatus};
pub use templates::{BASE, HOST, Templates};
