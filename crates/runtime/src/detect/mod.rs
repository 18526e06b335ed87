//! Which runtime a directory is for, by what lies in it.
//!
//! [`tree`] lists the directory, [`rules`] find evidence in it, [`choose`] decides between runtimes, and
//! [`cache`] remembers answers until a file changes that they could depend on.

pub mod cache;
mod choose;
mod jsonc;
mod manifest;
mod rules;
mod runtime;
mod serves;
pub mod starter;
mod tree;
mod watch;

use std::path::Path;

use serde::Serialize;

pub use cache::Detector;
pub use runtime::Runtime;
pub use tree::{MAX_DEPTH, MAX_ENTRIES};

use rules::Folder;
use tree::Tree;

/// A file, and what it says about the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    pub runtime: Runtime,
    /// Relative to the directory.
    pub file: String,
    pub reason: String,
}

/// A directory below with manifests of its own, as in a monorepo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Relative to the directory.
    pub directory: String,
    pub runtime: Runtime,
    pub evidence: Vec<Evidence>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detection {
    /// None where nothing speaks for any, or parts differ and the directory itself says nothing.
    pub runtime: Option<Runtime>,
    /// What the files ask for, as they say it: `>=20`, `3.12`, a compatibility date.
    pub version: Option<String>,
    /// Which rule decided.
    pub rule: String,
    /// For the runtime, strongest first.
    pub evidence: Vec<Evidence>,
    /// For other runtimes, in a mixed project.
    pub against: Vec<Evidence>,
    /// Parts of a monorepo, by directory.
    pub parts: Vec<Part>,
    /// Files that were not looked at, since they are links out of the directory.
    pub outside: Vec<String>,
    /// Whether the directory has more than was looked at.
    pub truncated: bool,
}

/// Why a directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be looked at: {source}", .path.display())]
pub struct DetectError {
    pub path: std::path::PathBuf,
    #[source]
    pub source: std::io::Error,
}

impl From<DetectError> for soulbox_model::Error {
    fn from(error: DetectError) -> Self {
        if error.source.kind() == std::io::ErrorKind::NotFound {
            Self::not_found("directory", error.path.display())
        } else {
            Self::internal("looking for a runtime", error)
        }
    }
}

/// Looks at `directory` now; [`Detector`] remembers.
///
/// # Errors
/// When it is no directory that can be read.
pub fn detect(directory: &Path) -> Result<Detection, DetectError> {
    let failed = |source| DetectError { path: directory.to_owned(), source };
    let tree = Tree::read(directory, &mut |_| {}).map_err(failed)?;
    Ok(decide(&tree))
}

fn decide(tree: &Tree) -> Detection {
    let root = Folder::new(tree, "");
    let found = rules::evidence(&root);
    let parts = choose::parts(tree);
    let choice = choose::choose(&root, &found, &parts);
    let (evidence, against) =
        found.into_iter().partition(|evidence| Some(evidence.runtime) == choice.runtime);
    Detection {
        version: choice.runtime.and_then(|runtime| rules::version(runtime, &root)),
        runtime: choice.runtime,
        rule: choice.rule,
        evidence,
        against,
        parts,
        outside: tree.outside(),
        truncated: tree.truncated,
    }
}

#[cfg(test)]
mod tests;
