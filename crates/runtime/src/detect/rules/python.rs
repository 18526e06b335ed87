//! Python.

use super::{Folder, found};
use crate::detect::{Evidence, Runtime, manifest::toml_text};

pub(super) fn evidence(folder: &Folder<'_>, all: &mut Vec<Evidence>) {
    let mut say = |file: &str, reason: &str| all.push(found(Runtime::Python, file, reason));
    if folder.has("pyproject.toml") {
        say("pyproject.toml", "manifest of a project");
    }
    for file in folder.files() {
        if file.starts_with("requirements") && file.ends_with(".txt") && folder.has(file) {
            say(file, "packages that it requires");
        }
    }
    for (file, reason) in [
        ("Pipfile", "packages that it requires"),
        ("uv.lock", "lock file of uv"),
        ("setup.py", "manifest of a package"),
    ] {
        if folder.has(file) {
            say(file, reason);
        }
    }
    let sources =
        folder.tree.sources(folder.path, &["", "src", "app"], |name| name.ends_with(".py"));
    if let Some(file) = sources.first() {
        let reason = match sources.len() {
            1 => "a source".to_owned(),
            more => format!("a source, one of {more}"),
        };
        say(file, &reason);
    }
}

pub(super) fn version(folder: &Folder<'_>) -> Option<String> {
    let pinned =
        folder.text(".python-version").and_then(|text| text.lines().next().map(str::to_owned));
    let project = || folder.text("pyproject.toml");
    pinned
        .or_else(|| toml_text(&project()?, &["project", "requires-python"]))
        .or_else(|| toml_text(&project()?, &["tool", "poetry", "dependencies", "python"]))
}

/// Whether a program is there that is more than a script beside a page.
pub(super) fn serves(folder: &Folder<'_>) -> bool {
    folder.first(&["app.py", "main.py", "manage.py", "server.py", "wsgi.py", "asgi.py"]).is_some()
}
