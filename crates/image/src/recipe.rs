//! What a template is made by.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use soulbox_model::TeamId;
use tokio::sync::{Mutex, watch};

use crate::{
    error::Result,
    template::{Progress, Template},
};

/// How commands run in a template that was built, and where in it the root file system begins.
#[derive(Debug, Default)]
pub struct Description {
    pub default_user: String,
    /// Where commands run; the user's home when absent.
    pub workdir: Option<String>,
    /// Of every command.
    pub env: BTreeMap<String, String>,
    /// Host directories that appear at an absolute path inside, besides those of the parent.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Below [`Workshop::rootfs`].
    pub root: PathBuf,
    /// Bytes on disk, where the maker knows.
    pub size_bytes: Option<u64>,
}

/// Where a recipe works.
#[derive(Debug)]
pub struct Workshop {
    /// For what the recipe needs besides; it goes when the build is done.
    pub dir: PathBuf,
    /// The root file system to fill, or the layer above those of the parent; does not exist yet.
    pub rootfs: PathBuf,
    /// What the recipe asked for, complete.
    pub parent: Option<Arc<Template>>,
    /// Held by what writes here and cannot be stopped: the directories stay until it lets go.
    pub hold: Arc<Mutex<()>>,
    pub report: Reporter,
}

/// Makes one template. Dropping the future of [`Recipe::build`] cancels it.
#[async_trait]
pub trait Recipe: Send + Sync + fmt::Debug {
    /// What the template is asked for by: 1 to 63 of a-z, 0-9 and -, no - at either end.
    fn name(&self) -> &str;

    /// Changes whenever an existing build has to be made anew, the parent's changes apart.
    fn fingerprint(&self) -> String;

    /// The template that this one adds a layer to.
    fn parent(&self) -> Option<&str> {
        None
    }

    /// Who alone may use it.
    fn team(&self) -> Option<TeamId> {
        None
    }

    /// Bytes that it holds in memory for somebody.
    fn weight(&self) -> usize {
        0
    }

    async fn build(&self, workshop: &Workshop) -> Result<Description>;
}

/// 12 hex digits of a hash over `parts`.
pub(crate) fn fingerprint<I, P>(parts: I) -> String
where
    I: IntoIterator<Item = P>,
    P: AsRef<[u8]>,
{
    digest(parts, 6)
}

/// The first `bytes` of a SHA-256 over `parts` and their lengths, in hex.
pub(crate) fn digest<I, P>(parts: I, bytes: usize) -> String
where
    I: IntoIterator<Item = P>,
    P: AsRef<[u8]>,
{
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..bytes])
}

/// Where a recipe tells how far it is.
#[derive(Debug, Clone)]
pub struct Reporter(pub(crate) watch::Sender<Progress>);

impl Reporter {
    /// `percent` of 100, and what is being done in a few words.
    pub fn report(&self, percent: u8, step: impl Into<String>) {
        self.0.send_replace(Progress { percent, step: step.into() });
    }
}
