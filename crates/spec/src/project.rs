//! What a project file says, typed.

use std::{collections::BTreeMap, time::Duration};

use semver::Version;
use soulbox_model::{
    Port,
    network::{Cidr, Demands, Destination, Egress},
};

use crate::{
    Against, Diagnostics,
    overrides::Override,
    validate,
    value::{BaseImage, Text, VersionRequest},
};

/// A whole `soulbox.toml`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    pub project: Identity,
    pub template: TemplateSpec,
    pub commands: Commands,
    pub resources: Limits,
    /// Variables of every process of the project. Names have a letter or `_` first, then letters, digits
    /// and `_`.
    pub environment: BTreeMap<String, Text>,
    pub network: Network,
    pub security: Security,
}

/// `[project]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A DNS label: 1 to 63 of a-z, 0-9 and -, neither first nor last a -.
    pub name: String,
    pub version: Version,
    pub description: Option<String>,
}

/// `[template]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSpec {
    /// A DNS label, as the project's name.
    pub name: String,
    pub base_image: BaseImage,
    /// Python to install over the base when it lacks it.
    pub python_version: Option<VersionRequest>,
    /// Node.js to install over the base when it lacks it.
    pub nodejs_version: Option<VersionRequest>,
    pub build_args: BTreeMap<String, String>,
}

/// `[commands]`: argument lists, none of them empty, none through a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    pub start: Vec<String>,
    /// Polled until it exits 0; without it, a project that has started is ready.
    pub ready: Option<Vec<String>>,
    pub test: Option<Vec<String>>,
}

/// `[resources]`: hard limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a core, 10 to 1 024 000.
    pub cpu_millis: u32,
    /// Bytes, at least 128 MB.
    pub memory_bytes: u64,
    /// Bytes that the sandbox may write, at least 1 MB.
    pub disk_bytes: u64,
    /// How long the sandbox lives, 1 s to 24 hours.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_millis: 1000,
            memory_bytes: 512_000_000,
            disk_bytes: 1_000_000_000,
            timeout: Duration::from_secs(300),
        }
    }
}

/// `[network]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The only ports that are reached from outside, in the order of the file, each once.
    pub ports: Vec<Port>,
    pub allow_internet: bool,
    /// Host names in lower case that lead to the first of `ports`.
    pub domains: Vec<String>,
    /// Reachable whatever is denied; each of it would be denied else.
    pub allow_out: Vec<Destination>,
    pub deny_out: Vec<Cidr>,
    /// `[network.requests]`.
    pub requests: Demands,
}

impl Network {
    /// The same as what the server goes by.
    pub fn egress(&self) -> Egress {
        let lists = Egress {
            allow: self.allow_out.clone(),
            deny: self.deny_out.clone(),
            ..Egress::of_internet(self.allow_internet)
        };
        lists.with(self.requests.clone())
    }

    /// Whether a program inside gets around rules that go by name, by calling a host by its address.
    pub fn is_open_beside_rules(&self) -> bool {
        let egress = self.egress();
        let addresses = egress.allow.iter().any(|entry| matches!(entry, Destination::Net(_)));
        egress.needs_names() && (addresses || !egress.denies_all())
    }
}

/// `[security]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Security {
    pub allow_docker: bool,
    pub allow_sudo: bool,
    pub read_only: bool,
}

impl Project {
    /// Reads `source`; `file_name` is what diagnostics call it. Touches no file.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn parse(source: &str, file_name: &str) -> Result<Self, Diagnostics> {
        Self::parse_with(source, file_name, &[])
    }

    /// The same with `overrides` in the place of what the file says, later ones over earlier ones.
    ///
    /// # Errors
    /// Everything that is wrong with the file and the overrides.
    pub fn parse_with(
        source: &str,
        file_name: &str,
        overrides: &[Override],
    ) -> Result<Self, Diagnostics> {
        let against = Against { overrides: overrides.to_vec(), cores: None };
        let context = validate::Context { against: &against, dir: None };
        validate::project(source, file_name, context)
    }

    /// The secrets that the environment wants, by the names in the store, each once.
    pub fn secrets(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.environment.values().flat_map(Text::secrets).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }
}
