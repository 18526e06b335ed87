//! One adapter for each runtime, behind one trait.

mod browser;
mod bun;
mod deno;
mod edge;
mod node;
mod packages;
mod permissions;
mod python;

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use soulbox_image::derived::Plan;

pub use self::{
    bun::Jsc,
    permissions::{Grant, Permissions},
};

/// Where code and what belongs to it lies inside.
pub const DIRECTORY: &str = "/home/user";

/// A runtime that SoulBox can run code in.
pub trait Adapter: Send + Sync + fmt::Debug {
    /// What it is asked for by.
    fn name(&self) -> &'static str;

    /// In a few words.
    fn about(&self) -> &'static str;

    /// The template that its sandboxes are made from.
    fn template(&self) -> &'static str {
        self.name()
    }

    /// How that template is made; `None` for one that every server has.
    fn plan(&self) -> Option<Plan>;

    /// What the file that holds the code ends in, where nobody says what language it is.
    fn extension(&self) -> &'static str;

    /// Memory that its sandboxes need; what sandboxes have otherwise where `None`.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// What its sandbox may use: what was asked for, or else what it needs.
    fn limits(&self, options: &Options) -> Limits {
        let Limits { cpu_millis, memory_bytes } = options.limits;
        Limits { cpu_millis, memory_bytes: memory_bytes.or(self.memory_bytes()) }
    }

    /// What its sandbox may reach, where the runtime asks for that; else what sandboxes may.
    fn reach(&self, options: &Options) -> Option<Grant> {
        let _ = options;
        None
    }

    /// Which options it understands.
    fn understands(&self) -> &'static [Switch];

    /// How to run the file `entry`, an absolute path inside.
    ///
    /// # Errors
    /// What an option must be instead.
    fn invocation(&self, options: &Options, entry: &str) -> Result<Invocation, BadOption>;

    /// What a failure means, where what the runtime said shows it.
    fn diagnose(&self, stderr: &str) -> Option<Diagnosis> {
        let _ = stderr;
        None
    }
}

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Files that must lie beside the code: absolute path inside and content.
    pub files: Vec<(String, String)>,
    pub results: Results,
}

/// Files that the run leaves besides what it says: absolute paths inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results {
    /// HTML of the page as it is at the end.
    pub dom: Option<String>,
    /// PNG.
    pub screenshot: Option<String>,
}

/// What a caller may ask of a runtime; each understands some of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// For the program.
    pub args: Vec<String>,
    /// Where the program runs, from [`DIRECTORY`]; there, where `None`.
    pub cwd: Option<String>,
    pub limits: Limits,
    pub permissions: Permissions,
    /// Features by name.
    pub unstable: Vec<String>,
    pub jsc: Jsc,
    /// Less memory for more time.
    pub small: bool,
    /// What edge functions are asked.
    pub request: Option<String>,
    pub page: Page,
}

/// Of a sandbox; what sandboxes have otherwise where `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a core.
    pub cpu_millis: Option<u32>,
    pub memory_bytes: Option<u64>,
}

/// What is wanted of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub dom: bool,
    pub screenshot: bool,
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// An expression that must be true before it is at its end.
    pub until: Option<String>,
}

/// The kinds of options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    Cwd,
    Net,
    Permissions,
    Unstable,
    Jsc,
    Small,
    Request,
    Page,
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cwd => "--cwd",
            Self::Net => "--allow-net",
            Self::Permissions => "permissions",
            Self::Unstable => "--unstable",
            Self::Jsc => "--jsc-heap and --jsc-no-jit",
            Self::Small => "--smol",
            Self::Request => "--request",
            Self::Page => "--dom, --screenshot, --size and --until",
        })
    }
}

impl Options {
    fn used(&self) -> impl Iterator<Item = Switch> {
        let beside = Permissions { net: Grant::None, ..self.permissions.clone() };
        let used = [
            (Switch::Cwd, self.cwd.is_some()),
            (Switch::Net, self.permissions.net != Grant::None),
            (Switch::Permissions, beside != Permissions::default()),
            (Switch::Unstable, !self.unstable.is_empty()),
            (Switch::Jsc, self.jsc != Jsc::default()),
            (Switch::Small, self.small),
            (Switch::Request, self.request.is_some()),
            (Switch::Page, self.page != Page::default()),
        ];
        used.into_iter().filter(|(_, used)| *used).map(|(switch, _)| switch)
    }

    /// The absolute path inside that the program runs in.
    pub fn directory(&self) -> String {
        match self.cwd.as_deref() {
            None => DIRECTORY.to_owned(),
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(path) => format!("{DIRECTORY}/{path}"),
        }
    }

    /// # Errors
    /// If one is for another runtime.
    pub fn check(&self, adapter: &dyn Adapter) -> Result<(), BadOption> {
        match self.used().find(|switch| !adapter.understands().contains(switch)) {
            None => Ok(()),
            Some(switch) => Err(BadOption(format!("{} has no {switch}", adapter.name()))),
        }
    }
}

/// An option that a runtime does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadOption(pub String);

impl From<BadOption> for soulbox_model::Error {
    fn from(error: BadOption) -> Self {
        Self::invalid("option", error.0)
    }
}

/// What a runtime's own words mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// A stable name, as `permission-denied`.
    pub kind: &'static str,
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

/// Every runtime, in the order in which people look for them.
pub fn all() -> &'static [&'static dyn Adapter] {
    &[
        &python::Python,
        &node::Node,
        &deno::Deno,
        &bun::Bun,
        &edge::Workerd,
        &edge::EdgeRuntime,
        &deno::Deploy,
        &browser::Browser,
    ]
}

/// The runtime of this name, or of the program that it alone runs.
pub fn find(name: &str) -> Option<&'static dyn Adapter> {
    let mut known = all().iter().copied();
    known
        .clone()
        .find(|adapter| adapter.name() == name)
        .or_else(|| known.find(|adapter| alias(*adapter).is_some_and(|alias| alias == name)))
}

/// The name of a template that one runtime alone has, where that is not the runtime's own.
pub fn alias(adapter: &dyn Adapter) -> Option<&'static str> {
    let template = adapter.template();
    let users = all().iter().filter(|other| other.template() == template).count();
    (users == 1 && template != adapter.name()).then_some(template)
}

/// The template plans of all runtimes, each once.
pub fn plans() -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    for plan in all().iter().filter_map(|adapter| adapter.plan()) {
        if !plans.iter().any(|known| known.name == plan.name) {
            plans.push(plan);
        }
    }
    plans
}

#[cfg(test)]
mod tests;
