//! What a template is, and how far one is.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use soulbox_model::{TeamId, TemplateId};

use crate::{
    error::{Error, Result},
    recipe::Description,
};

/// Directory of the root file system, beside [`META`].
pub(crate) const ROOTFS: &str = "rootfs";
pub(crate) const META: &str = "meta.json";
/// Templates on top of each other; overlayfs takes many more, but every one costs at each look-up.
pub(crate) const MAX_DEPTH: usize = 16;

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
    /// Bytes on disk, without what `binds` show and without the layers of the parent.
    pub size_bytes: u64,
    /// Who alone may use it; `None`: everybody.
    pub team: Option<TeamId>,
    /// What it adds a layer to.
    pub parent: Option<String>,
    /// Name of its directory, which says what it is made of.
    pub(crate) home: String,
    /// The directory of its parent.
    pub(crate) parent_home: Option<String>,
}

impl Template {
    /// With these layers and nothing else.
    #[cfg(test)]
    pub(crate) fn of(layers: &[&Path]) -> Self {
        Self {
            id: TemplateId::random(),
            name: "t".into(),
            layers: layers.iter().map(|layer| layer.to_path_buf()).collect(),
            binds: Vec::new(),
            default_user: "user".into(),
            workdir: None,
            env: BTreeMap::new(),
            created_at: Utc::now(),
            size_bytes: 0,
            team: None,
            parent: None,
            home: String::new(),
            parent_home: None,
        }
    }

    /// Whether a caller of `team` may use it.
    pub fn is_for(&self, team: TeamId) -> bool {
        self.team.is_none_or(|owner| owner == team)
    }
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
    /// What it adds a layer to.
    pub parent: Option<String>,
    /// Who alone may use it; `None`: everybody.
    pub team: Option<TeamId>,
    pub state: TemplateState,
    /// When the build that is under way began.
    pub began: Option<DateTime<Utc>>,
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
    /// Where below [`ROOTFS`] the root file system, or the layer, begins.
    #[serde(default)]
    root: PathBuf,
    #[serde(default)]
    team: Option<TeamId>,
    #[serde(default)]
    parent: Option<Parent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Parent {
    name: String,
    /// Of its directory.
    home: String,
}

/// Where the root file system of the template in `dir` lies.
pub(crate) fn rootfs(dir: &Path) -> PathBuf {
    dir.join(ROOTFS)
}

/// Writes down that `dir` holds a complete template.
pub(crate) fn describe(
    dir: &Path,
    identity: (&str, TemplateId, Option<TeamId>),
    parent: Option<&Template>,
    size_bytes: u64,
    description: Description,
) -> Result<()> {
    let (name, id, team) = identity;
    let inherited = parent.map(|parent| &parent.env).into_iter().flatten();
    let env = inherited.map(|(name, value)| (name.clone(), value.clone())).chain(description.env);
    let meta = Meta {
        id,
        name: name.to_owned(),
        default_user: description.default_user,
        workdir: description.workdir,
        env: env.collect(),
        binds: description.binds,
        created_at: Utc::now(),
        size_bytes,
        root: description.root,
        team,
        parent: parent.map(|p| Parent { name: p.name.clone(), home: p.home.clone() }),
    };
    let path = dir.join(META);
    let text = serde_json::to_vec_pretty(&meta)
        .map_err(|error| Error::io("write", &path)(error.into()))?;
    std::fs::write(&path, text).map_err(Error::io("write", &path))
}

/// The template in `dir`; `None` if there is none, or not all of what it stands on.
pub(crate) fn load(dir: &Path) -> Result<Option<Template>> {
    load_above(dir, 0)
}

fn load_above(dir: &Path, depth: usize) -> Result<Option<Template>> {
    let path = dir.join(META);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let meta: Meta =
        serde_json::from_slice(&text).map_err(|error| Error::io("read", &path)(error.into()))?;
    let below = match &meta.parent {
        None => None,
        Some(_) if depth == MAX_DEPTH => return Ok(None),
        Some(parent) => match load_above(&dir.with_file_name(&parent.home), depth + 1)? {
            Some(below) => Some(below),
            None => return Ok(None),
        },
    };
    let mut layers = vec![rootfs(dir).join(&meta.root)];
    let mut binds = meta.binds;
    if let Some(below) = below {
        layers.extend(below.layers);
        binds.extend(below.binds);
    }
    let (parent, parent_home) = meta.parent.map(|parent| (parent.name, parent.home)).unzip();
    Ok(Some(Template {
        id: meta.id,
        name: meta.name,
        layers,
        binds,
        default_user: meta.default_user,
        workdir: meta.workdir,
        env: meta.env,
        created_at: meta.created_at,
        size_bytes: meta.size_bytes,
        team: meta.team,
        parent,
        home: dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        parent_home,
    }))
}
