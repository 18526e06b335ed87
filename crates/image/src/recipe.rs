//! What a built-in template is made by.

use std::{fmt, path::PathBuf};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::{error::Result, template::Progress};

/// How commands run in a built template.
#[derive(Debug)]
pub(crate) struct Description {
    pub default_user: String,
    pub binds: Vec<(PathBuf, PathBuf)>,
}

/// Where a recipe works.
#[derive(Debug)]
pub(crate) struct Workshop {
    /// For what the recipe needs besides; it goes when the build is done.
    pub dir: PathBuf,
    /// The root file system to fill; does not exist yet.
    pub rootfs: PathBuf,
    pub report: Reporter,
}

/// Makes one template. Dropping the future of [`Recipe::build`] cancels it.
#[async_trait]
pub(crate) trait Recipe: Send + Sync + fmt::Debug {
    fn name(&self) -> &'static str;

    /// Changes whenever an existing build has to be made anew.
    fn fingerprint(&self) -> String;

    async fn build(&self, workshop: &Workshop) -> Result<Description>;
}

/// 12 hex digits of a hash over `parts`.
pub(crate) fn fingerprint<I, P>(parts: I) -> String
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
    hex::encode(&hash.finalize()[..6])
}

/// Where a recipe tells how far it is.
#[derive(Debug, Clone)]
pub(crate) struct Reporter(pub watch::Sender<Progress>);

impl Reporter {
    pub fn report(&self, percent: u8, step: impl Into<String>) {
        self.0.send_replace(Progress { percent, step: step.into() });
    }
}
