//! Manifests of a directory, as far as rules ask for them.

use serde_json::Value;
use toml::de::{DeTable, DeValue};

/// Bytes that are read of a manifest.
pub(super) const MAX_MANIFEST: usize = 1024 * 1024;

/// A `package.json`.
#[derive(Debug)]
pub(super) struct Package(Value);

impl Package {
    pub(super) fn parse(text: &str) -> Option<Self> {
        super::jsonc::parse(text).filter(Value::is_object).map(Self)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    pub(super) fn engine(&self, name: &str) -> Option<&str> {
        self.0.get("engines")?.get(name)?.as_str()
    }

    /// Whether `packageManager` names it, with its version.
    pub(super) fn manager(&self, name: &str) -> Option<&str> {
        let (manager, version) = self.text("packageManager")?.split_once('@')?;
        (manager == name).then(|| version.split('+').next().unwrap_or(version))
    }

    pub(super) fn scripts(&self) -> impl Iterator<Item = (&str, &str)> {
        let scripts = self.0.get("scripts").and_then(Value::as_object);
        scripts
            .into_iter()
            .flatten()
            .filter_map(|(name, line)| Some((name.as_str(), line.as_str()?)))
    }

    pub(super) fn script(&self, name: &str) -> Option<&str> {
        self.scripts().find(|(found, _)| *found == name).map(|(_, line)| line)
    }

    /// Whether it depends on a package of this name, to run or to build.
    pub(super) fn depends(&self, name: &str) -> bool {
        ["dependencies", "devDependencies"]
            .iter()
            .any(|kind| self.0.get(kind).and_then(|all| all.get(name)).is_some())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some()
    }
}

/// Whether a line of a shell calls `program`: as the first word of any of its commands.
pub(super) fn calls(line: &str, program: &str) -> bool {
    line.split(['&', '|', ';', '\n']).any(|command| {
        let mut words = command.split_whitespace().skip_while(|word| {
            word.contains('=')
                || matches!(*word, "cross-env" | "env" | "exec" | "time" | "dotenv" | "--")
        });
        words.next() == Some(program)
    })
}

/// A string in TOML by its path.
pub(super) fn toml_text(text: &str, path: &[&str]) -> Option<String> {
    let table = DeTable::parse(text).ok()?.into_inner();
    let (last, tables) = path.split_last()?;
    let mut here = &table;
    for name in tables {
        match here.get(*name)?.get_ref() {
            DeValue::Table(inner) => here = inner,
            _ => return None,
        }
    }
    match here.get(*last)?.get_ref() {
        DeValue::String(found) => Some(found.clone().into_owned()),
        DeValue::Datetime(found) => Some(found.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_calls_what_stands_first() {
        for line in ["bun run x", "NODE_ENV=a bun x", "tsc && bun test", "cross-env A=1 bun x"] {
            assert!(calls(line, "bun"), "{line}");
        }
        for line in ["echo bun", "npm run bun", "bundle", "node bun.js", "rm -rf bun", ""] {
            assert!(!calls(line, "bun"), "{line}");
        }
    }

    #[test]
    fn toml_is_read_by_path() {
        assert_eq!(toml_text("[a.b]\nc = 'x'", &["a", "b", "c"]).as_deref(), Some("x"));
        assert_eq!(toml_text("d = 2026-01-02", &["d"]).as_deref(), Some("2026-01-02"));
        assert_eq!(toml_text("a = 1", &["a", "b"]), None);
        assert_eq!(toml_text("a =", &["a"]), None);
    }
}
