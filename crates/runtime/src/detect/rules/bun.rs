//! Bun. A package that is merely called "bun" says nothing.

use super::{Folder, found};
use crate::detect::{Evidence, Runtime, manifest::calls};

pub(super) fn evidence(folder: &Folder<'_>, all: &mut Vec<Evidence>) {
    for (file, reason) in [
        ("bun.lock", "lock file of bun"),
        ("bun.lockb", "lock file of bun"),
        ("bunfig.toml", "configuration of bun"),
    ] {
        if folder.has(file) {
            all.push(found(Runtime::Bun, file, reason));
        }
    }
    let Some(package) = folder.package() else { return };
    if package.manager("bun").is_some() {
        all.push(found(Runtime::Bun, "package.json", "`packageManager` names bun"));
    }
    if package.engine("bun").is_some() {
        all.push(found(Runtime::Bun, "package.json", "`engines` names bun"));
    }
    let calling = package
        .scripts()
        .find(|(_, line)| calls(line, "bun") || calls(line, "bunx"))
        .map(|(name, _)| name.chars().take(64).collect::<String>());
    if let Some(name) = calling {
        all.push(found(Runtime::Bun, "package.json", format!("script `{name}` calls bun")));
    }
}

pub(super) fn version(folder: &Folder<'_>) -> Option<String> {
    let package = folder.package()?;
    package.manager("bun").or_else(|| package.engine("bun")).map(str::to_owned)
}
