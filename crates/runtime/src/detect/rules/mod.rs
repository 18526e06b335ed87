//! What speaks for each runtime.

mod browser;
mod bun;
mod deno;
mod edge;
mod node;
mod python;
mod source;

pub(super) use self::browser::PAGES;

use std::{cell::OnceCell, rc::Rc};

use serde_json::Value;

use super::{
    Evidence, Runtime, jsonc,
    manifest::{MAX_MANIFEST, Package},
    tree::{Tree, join},
};

/// A directory of the tree as a project of its own.
#[derive(Debug)]
pub(super) struct Folder<'a> {
    tree: &'a Tree,
    path: &'a str,
    package: OnceCell<Option<Package>>,
}

impl<'a> Folder<'a> {
    pub(super) fn new(tree: &'a Tree, path: &'a str) -> Self {
        Self { tree, path, package: OnceCell::new() }
    }

    /// Whether there is such a file: a name, or a path below.
    pub(super) fn has(&self, name: &str) -> bool {
        match name.rsplit_once('/') {
            Some((below, name)) => self.tree.has(&join(self.path, below), name),
            None => self.tree.has(self.path, name),
        }
    }

    /// The file that a manifest names as Node resolves it, from here.
    pub(super) fn resolve(&self, named: &str) -> Option<String> {
        let named = named.trim_start_matches("./").trim_end_matches('/');
        let plain =
            !named.is_empty() && !named.starts_with('-') && !named.contains(char::is_control);
        let mut candidates =
            [named.to_owned(), format!("{named}.js"), format!("{named}/index.js")].into_iter();
        candidates.find(|path| plain && self.tree.is_file(&join(self.path, path)))
    }

    /// The first of `names` that is there.
    pub(super) fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has(name))
    }

    pub(super) fn files(&self) -> &'a [String] {
        self.tree.files(self.path)
    }

    /// Whether there are tests of Python by their names.
    pub(super) fn has_tests(&self) -> bool {
        let test = |name: &str| {
            let name = name.rsplit('/').next().unwrap_or(name);
            name.ends_with("_test.py") || name.starts_with("test_") && name.ends_with(".py")
        };
        !self.tree.sources(self.path, &["", "tests", "test"], test).is_empty()
    }

    pub(super) fn text(&self, name: &str) -> Option<Rc<str>> {
        self.has(name).then(|| self.tree.text(&join(self.path, name), MAX_MANIFEST)).flatten()
    }

    pub(super) fn json(&self, name: &str) -> Option<Value> {
        jsonc::parse(&self.text(name)?)
    }

    pub(super) fn package(&self) -> Option<&Package> {
        self.package
            .get_or_init(|| self.text("package.json").and_then(|text| Package::parse(&text)))
            .as_ref()
    }

    /// The command of a task of Deno.
    pub(super) fn task(&self, name: &str) -> Option<String> {
        let (_, config) = self.deno()?;
        let config = config?;
        let task = config.get("tasks")?.get(name)?;
        task.as_str().or_else(|| task.get("command")?.as_str()).map(str::to_owned)
    }

    /// `deno.json` or `deno.jsonc`, by name.
    pub(super) fn deno(&self) -> Option<(&'static str, Option<Value>)> {
        let name = self.first(&["deno.json", "deno.jsonc"])?;
        Some((name, self.json(name)))
    }
}

pub(super) fn found(runtime: Runtime, file: &str, reason: impl Into<String>) -> Evidence {
    Evidence { runtime, file: file.to_owned(), reason: reason.into() }
}

/// Everything that speaks for any runtime, strongest first for each.
pub(super) fn evidence(folder: &Folder<'_>) -> Vec<Evidence> {
    let mut all = Vec::new();
    edge::workers(folder, &mut all);
    edge::deno_deploy(folder, &mut all);
    edge::vercel(folder, &mut all);
    bun::evidence(folder, &mut all);
    deno::evidence(folder, &mut all);
    browser::evidence(folder, &mut all);
    node::evidence(folder, &mut all);
    python::evidence(folder, &mut all);
    all
}

/// What the files ask for.
pub(super) fn version(runtime: Runtime, folder: &Folder<'_>) -> Option<String> {
    let version = match runtime {
        Runtime::CloudflareWorkers => edge::compatibility_date(folder),
        Runtime::Bun => bun::version(folder),
        Runtime::Deno | Runtime::DenoDeploy => deno::version(folder),
        Runtime::Node | Runtime::VercelEdge => node::version(folder),
        Runtime::Python => python::version(folder),
        Runtime::Browser => None,
    }?;
    let plain = version.trim();
    let good = (1..=64).contains(&plain.len()) && !plain.chars().any(char::is_control);
    good.then(|| plain.to_owned())
}

/// Whether a server is started here, so that a page is not all there is.
pub(super) fn serves(folder: &Folder<'_>) -> bool {
    node::serves(folder) || python::serves(folder)
}

/// Whether `package.json` starts something.
pub(super) fn node_starts(folder: &Folder<'_>) -> bool {
    node::starts(folder)
}
