//! Deno.

use super::{Folder, found, source};
use crate::detect::{Evidence, Runtime};

pub(super) fn evidence(folder: &Folder<'_>, all: &mut Vec<Evidence>) {
    for (file, reason) in [
        ("deno.json", "configuration of deno"),
        ("deno.jsonc", "configuration of deno"),
        ("deno.lock", "lock file of deno"),
    ] {
        if folder.has(file) {
            all.push(found(Runtime::Deno, file, reason));
        }
    }
    if folder.package().is_some_and(|package| package.engine("deno").is_some()) {
        all.push(found(Runtime::Deno, "package.json", "`engines` names deno"));
    }
    // Sources of Node and Bun may hold such imports for their own tools; by themselves they are Deno's.
    let scripts = folder.tree.sources(folder.path, &["", "src", "lib"], source::is_script);
    for file in scripts.into_iter().take(source::MAX_FILES) {
        let Some(text) = folder.tree.text(&file, source::MAX_BYTES) else { continue };
        if let Some(scheme) = source::imports_by(&text, &["jsr:", "npm:"]) {
            let reason = format!("imports from `{scheme}`");
            all.push(found(Runtime::Deno, &file, reason));
            break;
        }
    }
}

pub(super) fn version(folder: &Folder<'_>) -> Option<String> {
    let pinned = folder.text(".dvmrc").map(|text| text.to_string());
    pinned.or_else(|| folder.package()?.engine("deno").map(str::to_owned))
}
