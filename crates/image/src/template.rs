//! What a template is, and how far one is.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use soulbox_model::TemplateId;

use crate::{
    error::{Error, Result},
    recipe::Description,
};

/// Directory of the root file system, beside [`META`].
const ROOTFS: &str = "rootfs";
pub(crate) const META: &str = "meta.json";

/// A root file system that sandboxes share read-only, and how commands run in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pub id: TemplateId,
    pub name: String,
    /// Directories joined by an overlay, uppermost first. Files have the ids 0 to 65535 of the
    /// sandbox; the engine shifts them.
    pub layers: Vec<PathBuf>,
    /// Host directories that appear read-only at an absolute path inside. Mounts below a source
    /// do not appear.
    pub binds: Vec<(PathBuf, PathBuf)>,
    pub default_user: String,
    /// Where commands run; the user's home when absent.
    pub workdir: Option<String>,
    pub env: BTreeMap<String, String>,
    pub created_at: DateTime<Utc>,
    /// Bytes on disk, without what `binds` show.
    pub size_bytes: u64,
}

/// How far a build is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u8,
    /// What is being done, in a few words.
    pub step: String,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %, {}", self.percent, self.step)
    }
}

/// One row of [`Templates::list`](crate::Templates::list).
#[derive(Debug, Clone)]
pub struct TemplateStatus {
    pub id: TemplateId,
    pub name: String,
    pub state: TemplateState,
}

#[derive(Debug, Clone)]
pub enum TemplateState {
    Ready(Arc<Template>),
    Building(Progress),
    /// `error` is why the last build in this process failed, if one did.
    Missing {
        error: Option<String>,
    },
}

/// What lies in `meta.json`: all of a template but the paths that depend on where it lies.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    id: TemplateId,
    name: String,
    default_user: String,
    workdir: Option<String>,
    env: BTreeMap<String, String>,
    binds: Vec<(PathBuf, PathBuf)>,
    created_at: DateTime<Utc>,
    size_bytes: u64,
}

/// Where the root file system of the template in `dir` lies.
pub(crate) fn rootfs(dir: &Path) -> PathBuf {
    dir.join(ROOTFS)
}

/// Writes down that `dir` holds a complete template.
pub(crate) fn describe(
    dir: &Path,
    name: &str,
    id: TemplateId,
    size_bytes: u64,
    description: Description,
) -> Result<()> {
    let meta = Meta {
        id,
        name: name.to_owned(),
        default_user: description.default_user,
        workdir: None,
        env: BTreeMap::new(),
        binds: description.binds,
        created_at: Utc::now(),
        size_bytes,
    };
    let path = dir.join(META);
    let text = serde_json::to_vec_pretty(&meta)
        .map_err(|error| Error::io("write", &path)(error.into()))?;
    std::fs::write(&path, text).map_err(Error::io("write", &path))
}

/// The template in `dir`; `None` if there is none.
pub(crate) fn load(dir: &Path) -> Result<Option<Template>> {
    let path = dir.join(META);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let meta: Meta =
        serde_json::from_slice(&text).map_err(|error| Error::io("read", &path)(error.into()))?;
    Ok(Some(Template {
        id: meta.id,
        name: meta.name,
        layers: vec![rootfs(dir)],
        binds: meta.binds,
        default_user: meta.default_user,
        workdir: meta.workdir,
        env: meta.env,
        created_at: meta.created_at,
        size_bytes: meta.size_bytes,
    }))
}
