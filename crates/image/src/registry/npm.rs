//! Packages of the npm registry.

use std::{
    env,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use tokio::process::Command;

use super::fetch::{Digest, fetch};
use crate::{
    derived::Source,
    error::{Error, Result},
    template::Template,
};

/// Where npm takes the address of its registry from before it looks elsewhere.
const VARIABLES: [&str; 2] = ["npm_config_registry", "NPM_CONFIG_REGISTRY"];

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

    async fn pack(
        &self,
        _: &Template,
        scratch: &Path,
        report: &(dyn Fn(String) + Sync),
    ) -> Result<PathBuf> {
        let digest = Digest::integrity(self.integrity)?;
        let target = scratch.join("package.tgz");
        fetch(&self.url(&registry().await?), &digest, &target, &self.label(), report).await?;
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
async fn registry() -> Result<String> {
    let variable = VARIABLES.iter().find_map(|name| env::var(name).ok());
    if let Some(value) = variable.filter(|value| !value.trim().is_empty()) {
        return Ok(value);
    }
    let asked = Command::new("npm").args(["config", "get", "registry"]).output().await;
    let told = asked.ok().and_then(|output| address(&output.stdout));
    told.ok_or(Error::ToolMissing { tool: "npm", package: "npm" })
}

fn address(output: &[u8]) -> Option<String> {
    let text = str::from_utf8(output).ok()?.trim();
    text.starts_with("http").then(|| text.to_owned())
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
    fn what_is_no_address_is_not_taken() {
        assert_eq!(address(b"https://r.example/\n").as_deref(), Some("https://r.example/"));
        assert_eq!(address(b"undefined\n"), None);
        assert_eq!(address(b""), None);
    }
}
