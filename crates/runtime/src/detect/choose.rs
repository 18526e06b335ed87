//! Decides between runtimes, and says by which rule.

use super::{
    Evidence, Part, Runtime,
    rules::{self, Folder},
    tree::Tree,
};

/// Parts of a monorepo that are told.
const MAX_PARTS: usize = 200;

#[derive(Debug)]
pub(super) struct Choice {
    pub runtime: Option<Runtime>,
    pub rule: String,
}

/// What the directory itself says goes before what its parts say.
pub(super) fn choose(root: &Folder<'_>, evidence: &[Evidence], parts: &[Part]) -> Choice {
    if let Some((runtime, rule)) = of_one(root, evidence) {
        let among = match parts.len() {
            0 => String::new(),
            1 => "; it has a part of its own below".to_owned(),
            more => format!("; it has {more} parts of their own below"),
        };
        return Choice { runtime: Some(runtime), rule: format!("{rule}{among}") };
    }
    let mut kinds: Vec<Runtime> = parts.iter().map(|part| part.runtime).collect();
    kinds.sort();
    kinds.dedup();
    match kinds.as_slice() {
        [] => Choice { runtime: None, rule: "no file speaks for any runtime".to_owned() },
        [only] => {
            let rule = format!("the directory itself says nothing, and every part is {only}");
            Choice { runtime: Some(*only), rule }
        }
        several => {
            let names: Vec<_> = several.iter().map(ToString::to_string).collect();
            let rule = format!(
                "the directory itself says nothing, and its parts differ ({}): choose one of them",
                names.join(", ")
            );
            Choice { runtime: None, rule }
        }
    }
}

/// Between runtimes that one directory has evidence for.
fn of_one(folder: &Folder<'_>, evidence: &[Evidence]) -> Option<(Runtime, String)> {
    let mut kinds: Vec<Runtime> = evidence.iter().map(|evidence| evidence.runtime).collect();
    kinds.sort();
    kinds.dedup();
    let declares = |runtime: Runtime| {
        evidence
            .iter()
            .any(|evidence| evidence.runtime == runtime && super::tree::is_manifest(&evidence.file))
    };
    // A package.json that starts nothing holds tools of a project in Python.
    let tools_only = kinds.contains(&Runtime::Node)
        && kinds.contains(&Runtime::Python)
        && declares(Runtime::Python)
        && !rules::node_starts(folder);
    if tools_only {
        kinds.retain(|runtime| *runtime != Runtime::Node);
    }
    // Imports that Deno understands do not outweigh a package.json: other tools understand them, too.
    let imports_only = kinds.contains(&Runtime::Deno)
        && kinds.contains(&Runtime::Node)
        && !declares(Runtime::Deno);
    if imports_only {
        kinds.retain(|runtime| *runtime != Runtime::Deno);
    }
    let winner = *kinds.first()?;
    let first = evidence.iter().find(|evidence| evidence.runtime == winner)?;
    let mut rule = format!("{winner}: {} ({})", first.file, first.reason);
    if tools_only {
        rule.push_str("; package.json starts nothing, so it holds tools");
    }
    if imports_only {
        rule.push_str("; package.json outweighs imports");
    }
    let beaten: Vec<String> = kinds
        .iter()
        .skip(1)
        .filter(|other| !implied(winner, **other))
        .map(ToString::to_string)
        .collect();
    if !beaten.is_empty() {
        rule.push_str(&format!("; {winner} goes before {}", beaten.join(" and ")));
    }
    Some((winner, rule))
}

/// Whether evidence for `other` is what a project for `winner` has anyway.
fn implied(winner: Runtime, other: Runtime) -> bool {
    match other {
        Runtime::Node => winner != Runtime::Python,
        Runtime::Deno => winner == Runtime::DenoDeploy,
        _ => false,
    }
}

/// Directories below with a manifest, the outermost ones first.
pub(super) fn parts(tree: &Tree) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for path in tree.folders() {
        let declares = tree.files(path).iter().any(|name| is_project(name));
        if path.is_empty() || !declares || parts.len() >= MAX_PARTS {
            continue;
        }
        let folder = Folder::new(tree, path);
        let evidence = rules::evidence(&folder);
        if let Some((runtime, _)) = of_one(&folder, &evidence) {
            let evidence =
                evidence.into_iter().filter(|evidence| evidence.runtime == runtime).collect();
            parts.push(Part { directory: path.to_owned(), runtime, evidence });
        }
    }
    parts
}

/// Manifests that make a directory a project of its own.
fn is_project(name: &str) -> bool {
    matches!(
        name,
        "package.json"
            | "deno.json"
            | "deno.jsonc"
            | "pyproject.toml"
            | "Pipfile"
            | "setup.py"
            | "requirements.txt"
            | "wrangler.toml"
            | "wrangler.json"
            | "wrangler.jsonc"
    )
}
