//! Packages of the npm registry.

use std::{
    env,
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use super::fetch::{Digest, fetch};
use crate::{derived::Source, error::Result};

const DEFAULT: &str = "https://registry.npmjs.org";
/// Later ones count only where earlier ones say nothing, as npm has it.
const VARIABLES: [&str; 2] = ["npm_config_registry", "NPM_CONFIG_REGISTRY"];
const SYSTEM: [&str; 3] = ["/usr/etc/npmrc", "/usr/local/etc/npmrc", "/etc/npmrc"];

/// One version of one package, as its registry's tarball. Names in it begin with `package/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Npm {
    /// With its scope, as `@scope/name`.
    pub name: &'static str,
    pub version: &'static str,
    /// `sha512-` and base64, as lock files have it.
    pub integrity: &'static str,
}

#[async_trait]
impl Source for Npm {
    fn identity(&self) -> String {
        // The content, and not where it came from.
        self.integrity.to_owned()
    }

    fn label(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    async fn pack(&self, scratch: &Path, report: &(dyn Fn(String) + Sync)) -> Result<PathBuf> {
        let digest = Digest::integrity(self.integrity)?;
        let target = scratch.join("package.tgz");
        fetch(&self.url(&registry()), &digest, &target, &self.label(), report).await?;
        Ok(target)
    }
}

impl Npm {
    fn url(&self, registry: &str) -> String {
        let file = self.name.rsplit('/').next().unwrap_or(self.name);
        let registry = registry.trim_end_matches('/');
        format!("{registry}/{}/-/{file}-{}.tgz", self.name, self.version)
    }
}

/// The registry that this machine's npm uses.
fn registry() -> String {
    let variable = VARIABLES.iter().find_map(|name| env::var(name).ok());
    let own = env::var_os("HOME").map(|home| PathBuf::from(home).join(".npmrc"));
    let files = own.into_iter().chain(SYSTEM.map(PathBuf::from));
    let text = |path: PathBuf| std::fs::read_to_string(path).ok();
    variable
        .filter(|value| !value.trim().is_empty())
        .or_else(|| files.filter_map(text).find_map(|text| setting(&text)))
        .unwrap_or_else(|| DEFAULT.to_owned())
}

/// `registry = …` of an npmrc; the last one counts.
fn setting(npmrc: &str) -> Option<String> {
    let pairs = npmrc.lines().filter_map(|line| line.split_once('='));
    let mut named =
        pairs.filter(|(name, _)| name.trim() == "registry").map(|(_, value)| value.trim());
    let value = named.next_back()?.trim_matches(['"', '\'']);
    // A variable of its own would be npm's to fill in.
    let usable = !value.is_empty() && !value.contains("${");
    usable.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_scoped_package_has_its_name_twice() {
        let package = Npm { name: "@scope/tool", version: "1.2.3", integrity: "sha512-" };
        let expected = "https://r.example/npm/@scope/tool/-/tool-1.2.3.tgz";
        assert_eq!(package.url("https://r.example/npm/"), expected);
    }

    #[test]
    fn the_last_registry_of_an_npmrc_counts() {
        let text = "; comment\nregistry=http://one.example/\n@scope:registry=http://no.example/\n\
                    registry = \"http://two.example/\"\n";
        assert_eq!(setting(text).as_deref(), Some("http://two.example/"));
        assert_eq!(setting("registry=${WHERE}\n"), None);
        assert_eq!(setting("fund=false\n"), None);
    }
}
