//! A page that a browser runs, and no server.

use super::{Folder, found, serves};
use crate::detect::{Evidence, Runtime};

/// Where the page lies.
pub(in crate::detect) const PAGES: [&str; 3] =
    ["index.html", "public/index.html", "src/index.html"];

/// Tools that make pages.
const BUNDLERS: [&str; 8] =
    ["vite", "webpack", "parcel", "rollup", "esbuild", "snowpack", "@rspack/core", "react-scripts"];

pub(super) fn evidence(folder: &Folder<'_>, all: &mut Vec<Evidence>) {
    let Some(page) = folder.first(&PAGES) else { return };
    let page = super::join(folder.path, page);
    let bundler =
        folder.package().and_then(|package| BUNDLERS.iter().find(|name| package.depends(name)));
    let modules = folder.tree.text(&page, 64 * 1024).is_some_and(|text| has_module(&text));
    if (bundler.is_none() && !modules) || serves(folder) {
        return;
    }
    if modules {
        all.push(found(Runtime::Browser, &page, "a page with module scripts, and no server"));
    }
    if let Some(bundler) = bundler {
        let reason = format!("is bundled for browsers by {bundler}");
        all.push(found(Runtime::Browser, "package.json", reason));
    }
}

/// Whether the page has `<script type="module">`.
fn has_module(page: &str) -> bool {
    let page = page.to_ascii_lowercase();
    page.match_indices("<script").any(|(at, _)| {
        let tag = &page[at..];
        let tag: String = tag[..tag.find('>').unwrap_or(tag.len())]
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '"' && *c != '\'')
            .collect();
        tag.contains("type=module")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_scripts_are_found() {
        for page in [
            "<script type=\"module\" src=a.js>",
            "<SCRIPT src=a TYPE = 'module'>",
            "<script\ntype=module>",
        ] {
            assert!(has_module(page), "{page}");
        }
        for page in
            ["<script src=module.js>", "<p>type=module</p>", "<script>x</script> type=\"module\""]
        {
            assert!(!has_module(page), "{page}");
        }
    }
}
