//! What a project needs installed: which installer, with which files, by which commands.
//!
//! Nothing is installed here. [`of_project`] reads the manifests and lock files of a directory and says
//! which [`Layer`]s go on top of the project's template; nothing but what a layer names enters the sandbox in
//! which it is made, so that a change of code leaves it as it is.

mod folder;
mod interpreters;
mod node;
mod packages;
mod python;
mod requirements;
mod sources;

use std::{collections::BTreeMap, io, path::Path};

use self::folder::Folder;
pub use self::{
    interpreters::{nodejs, python as python_interpreter},
    packages::of_runtime,
};

/// Where a project lies inside.
pub const PROJECT: &str = "/home/user/app";

/// What is put on top of a template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// Who installs: `pip`, `npm`, …
    pub installer: &'static str,
    /// What asks for it: `requirements.txt`, `nodejs_version`, …
    pub because: String,
    /// Absolute directory of `files`.
    pub target: String,
    /// Path below `target`, and content.
    pub files: Vec<(String, Vec<u8>)>,
    pub steps: Vec<Step>,
    /// Directories of programs, before all others.
    pub paths: Vec<String>,
    /// Of every command.
    pub env: BTreeMap<String, String>,
    /// Paths in the project's directory that it makes, and that are not copied from outside.
    pub made: Vec<String>,
}

/// A command of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub argv: Vec<String>,
    pub user: &'static str,
    pub cwd: String,
    pub env: BTreeMap<String, String>,
    /// Whether it talks to a registry.
    pub fetches: bool,
}

/// Why what a project needs cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{file}: {message}")]
    Manifest {
        file: String,
        message: String,
        /// What to do about it.
        hint: String,
    },
    #[error("{file}: {source}")]
    Read {
        file: String,
        #[source]
        source: io::Error,
    },
}

impl Problem {
    pub fn hint(&self) -> &str {
        match self {
            Self::Manifest { hint, .. } => hint,
            Self::Read { .. } => "manifests are files of the project, of 4 MiB at most",
        }
    }

    fn in_file(file: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Manifest { file: file.to_owned(), message: message.into(), hint: hint.into() }
    }
}

type Result<T, E = Problem> = std::result::Result<T, E>;

/// What the manifests right in `directory` ask for, lowest first; empty where they ask for nothing.
///
/// # Errors
/// What cannot be installed as it is written.
pub fn of_project(directory: &Path) -> Result<Vec<Layer>> {
    let folder = Folder::open(directory)?;
    let layers = [python::layers(&folder)?, node::layers(&folder)?];
    Ok(layers.into_iter().flatten().collect())
}

impl Layer {
    /// An installer that templates lack, in a layer of its own: it stays when a lock file changes.
    fn of_tool(installer: &'static str, because: String, bin: &str) -> Self {
        let (target, paths) = ("/tmp".to_owned(), vec![bin.to_owned()]);
        Self { installer, because, target, paths, ..Self::default() }
    }

    /// Whether it brings an interpreter, by a script of ours and nothing of the project.
    pub fn is_interpreter(&self) -> bool {
        matches!(self.installer, interpreters::NODEJS | interpreters::PYTHON)
    }

    fn step(&mut self, user: &'static str, cwd: &str, argv: &[&str]) -> &mut Step {
        self.steps.push(Step {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            user,
            cwd: cwd.to_owned(),
            env: BTreeMap::new(),
            fetches: false,
        });
        // Just pushed.
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    /// Makes `paths` come first for login shells, which begin with a `PATH` of their own; not for those of
    /// root, who must not run what a user put there.
    fn tell_shells(&mut self, name: &str) {
        let paths = self.paths.join(":");
        let line = format!("[ \"$(id -u)\" = 0 ] || export PATH={paths}:$PATH");
        let file = format!("/etc/profile.d/soulbox-{name}.sh");
        let write = "mkdir -p /etc/profile.d && printf '%s\\n' \"$0\" >\"$1\"";
        self.step("root", "/", &["sh", "-c", write, &line, &file]);
    }
}

impl Step {
    fn fetching(&mut self, env: &[(&str, &str)]) {
        self.fetches = true;
        self.env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    }
}

#[cfg(test)]
mod tests;
