//! Templates that add a layer to another one: what is put into a sandbox of the parent and run there.
//!
//! A [`Plan`] says what goes in and what is run; its name and fingerprint come from nothing else, so
//! whoever asks for the same gets the same. Where sandboxes are, a [`Preparer`] carries it out.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use soulbox_model::TeamId;
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::{
    error::{Error, Result},
    recipe::{Description, Recipe, Reporter, Workshop, digest},
    template::Template,
};

/// Raise it when plans are carried out differently.
const VERSION: &str = "1";
/// What anonymous derived templates are called, before their fingerprint.
const PREFIX: &str = "derived-";
/// The agent's own, where a template has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest that [`Plan::within`] may be, for who knows no better.
pub const LONGEST: Duration = Duration::from_secs(20 * 60);

/// What makes a derived template.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is asked for by; `None`: its fingerprint.
    pub name: Option<String>,
    /// Name of a template.
    pub parent: String,
    /// Who alone may use it.
    pub team: Option<TeamId>,
    /// Unpacked in this order, before any step.
    pub inputs: Vec<Input>,
    /// Run in this order.
    pub steps: Vec<Step>,
    /// Of every command in its sandboxes.
    pub env: BTreeMap<String, String>,
    /// Directories of programs that come before those of the parent.
    pub path: Vec<String>,
    /// Where commands run; as in the parent when absent.
    pub workdir: Option<String>,
    /// Whether its steps reach the internet.
    pub internet: bool,
    /// What unpacking and all steps together may take; no part of what the template is.
    pub within: Duration,
}

/// An archive that is unpacked inside.
#[derive(Debug, Clone)]
pub struct Input {
    /// Absolute directory inside.
    pub target: String,
    /// Leading parts of names in the archive that are left out.
    pub strip: u32,
    pub source: Arc<dyn Source>,
}

/// Where an archive comes from: the network, files of a client, one day an image's layer.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// Says which bytes these are, wherever they come from: part of the fingerprint.
    fn identity(&self) -> String;

    /// Bytes that it holds in memory.
    fn weight(&self) -> usize {
        0
    }

    /// In a few words, for people who wait.
    fn label(&self) -> String;

    /// Makes a tar file, gzipped or not, in the empty directory `scratch`. It will be unpacked on top
    /// of `parent`.
    async fn pack(
        &self,
        parent: &Template,
        scratch: &Path,
        report: &(dyn Fn(String) + Sync),
    ) -> Result<PathBuf>;
}

/// A command that is run inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Program and arguments; not empty.
    pub argv: Vec<String>,
    pub user: String,
    pub env: BTreeMap<String, String>,
    /// Absolute directory inside.
    pub cwd: String,
    /// It fails when it takes longer, further tries included.
    pub timeout: Duration,
    /// Whether it is tried again when the network is what failed.
    pub retry: bool,
}

/// What a [`Preparer`] is to do.
#[derive(Debug)]
pub struct Job<'a> {
    pub name: &'a str,
    /// Who asked for it.
    pub team: Option<TeamId>,
    pub parent: &'a Template,
    /// Complete archives.
    pub archives: Vec<Archive>,
    pub steps: &'a [Step],
    pub internet: bool,
    pub within: Duration,
    /// The layer's directory, to be made.
    pub into: &'a Path,
    /// See [`Workshop::hold`].
    pub hold: &'a Arc<Mutex<()>>,
    pub report: &'a Reporter,
}

#[derive(Debug)]
pub struct Archive {
    pub file: PathBuf,
    pub target: String,
    pub strip: u32,
}

/// A layer that was made.
#[derive(Debug)]
pub struct Prepared {
    /// Where in [`Job::into`] it begins.
    pub root: PathBuf,
    pub bytes: u64,
}

/// Runs a job in a sandbox of the parent and keeps what that wrote.
#[async_trait]
pub trait Preparer: Send + Sync + fmt::Debug {
    /// On error, or when its future is dropped, neither sandbox nor layer is left.
    async fn prepare(&self, job: Job<'_>) -> Result<Prepared>;
}

impl Plan {
    /// 24 hex digits that say what is put in and run, by whom, on top of a template of this name.
    pub fn fingerprint(&self) -> String {
        let mut parts = vec![VERSION.to_owned(), self.parent.clone()];
        parts.push(self.team.map(|team| team.0.to_string()).unwrap_or_default());
        parts.push(self.workdir.clone().unwrap_or_default());
        let pairs = |parts: &mut Vec<String>, env: &BTreeMap<String, String>| {
            parts.push(env.len().to_string());
            parts.extend(env.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
        };
        pairs(&mut parts, &self.env);
        parts.push(self.inputs.len().to_string());
        for input in &self.inputs {
            let strip = input.strip.to_string();
            parts.extend([input.target.clone(), strip, input.source.identity()]);
        }
        for step in &self.steps {
            parts.extend([step.user.clone(), step.cwd.clone(), step.argv.len().to_string()]);
            parts.extend(step.argv.iter().cloned());
            pairs(&mut parts, &step.env);
        }
        if self.internet {
            parts.push("internet".to_owned());
        }
        if !self.path.is_empty() {
            parts.push("path".to_owned());
            parts.extend(self.path.iter().cloned());
        }
        digest(parts, 12)
    }
}

/// A plan, and who carries it out.
#[derive(Debug)]
pub struct Derived {
    name: String,
    fingerprint: String,
    plan: Plan,
    preparer: Arc<dyn Preparer>,
}

impl Derived {
    pub fn new(plan: Plan, preparer: Arc<dyn Preparer>) -> Self {
        let fingerprint = plan.fingerprint();
        let name = plan.name.clone().unwrap_or_else(|| format!("{PREFIX}{fingerprint}"));
        Self { name, fingerprint, plan, preparer }
    }
}

#[async_trait]
impl Recipe for Derived {
    fn name(&self) -> &str {
        &self.name
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn parent(&self) -> Option<&str> {
        Some(&self.plan.parent)
    }

    fn team(&self) -> Option<TeamId> {
        self.plan.team
    }

    fn weight(&self) -> usize {
        self.plan.inputs.iter().map(|input| input.source.weight()).sum()
    }

    async fn build(&self, workshop: &Workshop) -> Result<Description> {
        let gone = || Error::Unknown(self.plan.parent.clone());
        let parent = workshop.parent.as_deref().ok_or_else(gone)?;
        let mut archives = Vec::new();
        let count = self.plan.inputs.len().max(1);
        for (at, input) in self.plan.inputs.iter().enumerate() {
            // The first half of the way.
            let percent = u8::try_from(at * 50 / count).unwrap_or(50);
            workshop.report.report(percent, format!("fetching {}", input.source.label()));
            let scratch = workshop.dir.join(format!("input-{at}"));
            tokio::fs::create_dir(&scratch).await.map_err(Error::io("create", &scratch))?;
            let say = |step| workshop.report.report(percent, step);
            let file = input.source.pack(parent, &scratch, &say).await?;
            archives.push(Archive { file, target: input.target.clone(), strip: input.strip });
        }
        let job = Job {
            name: &self.name,
            team: self.plan.team,
            parent,
            archives,
            steps: &self.plan.steps,
            internet: self.plan.internet,
            within: self.plan.within,
            into: &workshop.rootfs,
            hold: &workshop.hold,
            report: &workshop.report,
        };
        let prepared = self.preparer.prepare(job).await?;
        let mut env = self.plan.env.clone();
        if !self.plan.path.is_empty() {
            let below = parent.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
            env.insert("PATH".to_owned(), format!("{}:{below}", self.plan.path.join(":")));
        }
        Ok(Description {
            default_user: parent.default_user.clone(),
            workdir: self.plan.workdir.clone().or_else(|| parent.workdir.clone()),
            env,
            binds: Vec::new(),
            root: prepared.root,
            size_bytes: Some(prepared.bytes),
        })
    }
}

/// Files that somebody hands over as they are.
#[derive(Debug, Clone)]
pub struct Files(pub Vec<File>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the input's target.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    pub content: Vec<u8>,
}

#[async_trait]
impl Source for Files {
    fn identity(&self) -> String {
        let parts = self.0.iter().flat_map(|file| {
            let mode = file.mode.to_string().into_bytes();
            [file.path.clone().into_bytes(), mode, file.content.clone()]
        });
        digest(parts, 32)
    }

    fn weight(&self) -> usize {
        self.0.iter().map(|file| file.path.len() + file.content.len()).sum()
    }

    fn label(&self) -> String {
        format!("{} files", self.0.len())
    }

    async fn pack(
        &self,
        _: &Template,
        scratch: &Path,
        _: &(dyn Fn(String) + Sync),
    ) -> Result<PathBuf> {
        let (files, path) = (self.0.clone(), scratch.join("files.tar"));
        let target = path.clone();
        let packed = spawn_blocking(move || pack(&files, &target)).await;
        match packed {
            Ok(packed) => packed.map_err(Error::io("write", &path))?,
            Err(lost) => return Err(Error::io("write", &path)(io::Error::other(lost))),
        }
        Ok(path)
    }
}

fn pack(files: &[File], target: &Path) -> io::Result<()> {
    let mut archive = tar::Builder::new(std::fs::File::create_new(target)?);
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode & 0o777);
        header.set_size(file.content.len() as u64);
        archive.append_data(&mut header, &file.path, &file.content[..])?;
    }
    archive.into_inner().map(drop)
}

#[cfg(test)]
#[path = "derived_tests.rs"]
mod tests;
