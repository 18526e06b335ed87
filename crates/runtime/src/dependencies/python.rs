//! Python: a virtual environment for each project, filled by pip or uv.

use std::collections::BTreeSet;

use rustix::fs::FileType;
use serde_json::Value as Json;
use toml::Value as Toml;

use super::{Layer, PROJECT, Problem, Result, folder::Folder, requirements, sources};

/// Of the project's own installation, in its directory.
pub(super) const VENV_NAME: &str = ".venv";
/// Where manifests lie while they are installed; emptied before the layer is kept.
pub(super) const MANIFESTS: &str = "/tmp/soulbox-install";
/// What is installed beside `requirements.txt`, if it is there.
const MORE: [&str; 6] = [
    "requirements-dev.txt",
    "requirements_dev.txt",
    "dev-requirements.txt",
    "requirements-test.txt",
    "requirements_test.txt",
    "test-requirements.txt",
];
/// Groups and extras that are for work on the project.
const DEVELOPMENT: [&str; 4] = ["dev", "test", "tests", "testing"];
/// Versions of installers change what they install: they are named.
pub(super) const UV: &str = "uv==0.13.9";
const LIST: &str = "requirements.txt";

pub(super) const PIP: [(&str, &str); 6] = [
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ("PIP_NO_CACHE_DIR", "1"),
    ("PIP_NO_INPUT", "1"),
    ("PIP_PROGRESS_BAR", "off"),
    // The step is tried again as a whole.
    ("PIP_RETRIES", "2"),
    ("PIP_DEFAULT_TIMEOUT", "30"),
];

const UV_SETTINGS: [(&str, &str); 5] = [
    ("UV_NO_CACHE", "1"),
    ("UV_LINK_MODE", "copy"),
    ("UV_PYTHON", "python3"),
    ("UV_PYTHON_DOWNLOADS", "never"),
    ("UV_NO_PROGRESS", "1"),
];

pub(super) fn layers(folder: &Folder) -> Result<Vec<Layer>> {
    if let Some(lock) = folder.bytes("uv.lock")? {
        return uv(folder, lock);
    }
    if let Some(lock) = folder.text("Pipfile.lock")? {
        let list = pipfile(&lock)?;
        return Ok(pip(
            "pipenv",
            "Pipfile.lock",
            vec![(LIST.to_owned(), list)],
            &[LIST.to_owned()],
        )
        .into_iter()
        .collect());
    }
    let files = requirement_files(folder)?;
    if !files.is_empty() {
        let all = requirements::collect(folder, &files)?;
        if !all.values().any(|text| requirements::names_an_index(text)) {
            sources::none_declared(folder)?;
        }
        return Ok(pip("pip", &files.join(", "), all.into_iter().collect(), &files)
            .into_iter()
            .collect());
    }
    if folder.is_listed("Pipfile") {
        let message = "there is no Pipfile.lock, and nothing says which versions are meant";
        return Err(Problem::in_file("Pipfile", message, "make one with `pipenv lock`"));
    }
    let Some(text) = folder.text("pyproject.toml")? else { return Ok(Vec::new()) };
    let list = pyproject(&text)?;
    if !list.is_empty() {
        sources::none_declared(folder)?;
    }
    let mut layer = pip("pip", "pyproject.toml", vec![(LIST.to_owned(), list)], &[LIST.to_owned()]);
    if let Some(layer) = &mut layer {
        find_sources(layer);
    }
    Ok(layer.into_iter().collect())
}

/// Modules below `src` of the project, where it lies in either kind of sandbox, are found as if it were installed.
const FIND_SOURCES: &str = "for packages in \"$0\"/lib/python*/site-packages; do \
                            printf '%s\\n' \"$1/src\" /tmp/app/src >\"$packages/soulbox-project.pth\"; done";

fn find_sources(layer: &mut Layer) {
    let venv = format!("{PROJECT}/{VENV_NAME}");
    layer.step("user", "/", &["sh", "-c", FIND_SOURCES, &venv, PROJECT]);
}

/// Of `files`, those in `lists` are handed to pip; none where they ask for nothing.
fn pip(
    installer: &'static str,
    because: &str,
    files: Vec<(String, String)>,
    lists: &[String],
) -> Option<Layer> {
    let asks = |text: &String| {
        text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    if !files.iter().any(|(_, text)| asks(text)) {
        return None;
    }
    let files = files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
    let mut layer = begin(installer, because, files);
    let venv = format!("{PROJECT}/{VENV_NAME}");
    layer.step("user", MANIFESTS, &["python3", "-m", "venv", &venv]);
    let program = format!("{venv}/bin/pip");
    let mut argv = vec![program.as_str(), "install"];
    argv.extend(lists.iter().flat_map(|list| ["-r", list.as_str()]));
    layer.step("user", MANIFESTS, &argv).fetching(&PIP);
    layer.tell_shells("venv");
    Some(layer)
}

fn uv(folder: &Folder, lock: Vec<u8>) -> Result<Vec<Layer>> {
    let manifest = folder.bytes("pyproject.toml")?.ok_or_else(|| {
        Problem::in_file("uv.lock", "there is no pyproject.toml beside it", "uv needs both")
    })?;
    let text = String::from_utf8_lossy(&manifest);
    let parsed = parse(&text)?;
    local_sources(&parsed)?;
    let mut files =
        vec![("uv.lock".to_owned(), lock), ("pyproject.toml".to_owned(), manifest.clone())];
    if let Some(settings) = folder.bytes("uv.toml")? {
        files.push(("uv.toml".to_owned(), settings));
    }
    let mut tool = Layer::of_tool("pip", UV.to_owned(), "/opt/uv/bin");
    tool.step("root", "/", &["python3", "-m", "venv", "/opt/uv"]);
    tool.step("root", "/", &["/opt/uv/bin/pip", "install", UV]).fetching(&PIP);
    tool.tell_shells("uv");
    let mut layer = begin("uv", "uv.lock", files);
    // `uv run` takes what is there.
    layer.env.insert("UV_NO_SYNC".to_owned(), "1".to_owned());
    let argv = ["/opt/uv/bin/uv", "sync", "--locked", "--no-install-project"];
    let sync = layer.step("user", MANIFESTS, &argv);
    sync.fetching(&UV_SETTINGS);
    sync.env.insert("UV_PROJECT_ENVIRONMENT".to_owned(), format!("{PROJECT}/{VENV_NAME}"));
    find_sources(&mut layer);
    layer.tell_shells("venv");
    Ok(vec![tool, layer])
}

fn begin(installer: &'static str, because: &str, files: Vec<(String, Vec<u8>)>) -> Layer {
    let venv = format!("{PROJECT}/{VENV_NAME}");
    let mut layer = Layer {
        installer,
        because: because.to_owned(),
        target: MANIFESTS.to_owned(),
        files,
        paths: vec![format!("{venv}/bin")],
        env: [("VIRTUAL_ENV".to_owned(), venv)].into(),
        made: vec![VENV_NAME.to_owned()],
        ..Layer::default()
    };
    layer.step("root", "/", &["install", "-d", "-o", "user", "-g", "user", MANIFESTS, PROJECT]);
    layer.step("root", "/", &["chown", "-R", "user:user", MANIFESTS]);
    layer
}

/// `requirements.txt` and what goes with it, or the one file that there is.
fn requirement_files(folder: &Folder) -> Result<Vec<String>> {
    // Links count: where one leads is found out when it is read.
    let known = std::iter::once(LIST).chain(MORE);
    let known = known.filter(|name| folder.is_listed(name)).map(str::to_owned);
    let files: Vec<String> = known.collect();
    if !files.is_empty() {
        return Ok(files);
    }
    let names = folder.names(".", &[FileType::RegularFile, FileType::Symlink]);
    let lists = |name: &&String| name.starts_with("requirements") && name.ends_with(".txt");
    let others: Vec<String> = names.iter().filter(lists).cloned().collect();
    if others.len() > 1 {
        let message = format!("there are {}, and none is the one", others.join(", "));
        let hint = "write a requirements.txt that includes those that are meant: `-r other.txt`";
        return Err(Problem::in_file(LIST, message, hint));
    }
    Ok(others)
}

pub(super) fn parse(text: &str) -> Result<Toml> {
    toml::from_str(text).map_err(|error| {
        let message = error.message().to_owned();
        Problem::in_file("pyproject.toml", message, "it must be TOML")
    })
}

/// What `[project]` and the groups for development ask for, a line for each.
fn pyproject(text: &str) -> Result<String> {
    let bad = |message: &str, hint: &str| Err(Problem::in_file("pyproject.toml", message, hint));
    let parsed = parse(text)?;
    let poetry = parsed.get("tool").and_then(|tool| tool.get("poetry"));
    let own = poetry.and_then(|poetry| poetry.get("dependencies")).and_then(Toml::as_table);
    let project = parsed.get("project");
    if project.is_none() && own.is_some_and(|own| own.keys().any(|name| name != "python")) {
        let hint = "write a requirements.txt with `poetry export`, or move them to [project]";
        return bad("dependencies in [tool.poetry] are not read", hint);
    }
    let dynamic = project.and_then(|project| project.get("dynamic")).and_then(Toml::as_array);
    let names = dynamic.into_iter().flatten().filter_map(Toml::as_str);
    if names.into_iter().any(|name| name == "dependencies") {
        let hint = "name them in [project], or write a requirements.txt";
        return bad("dependencies that a build backend finds out are not known", hint);
    }
    let mut lines = Vec::new();
    let extras = project.and_then(|project| project.get("optional-dependencies"));
    let mut add = |list: Option<&Toml>| {
        let list = list.and_then(Toml::as_array);
        lines.extend(list.into_iter().flatten().filter_map(Toml::as_str).map(str::to_owned));
    };
    add(project.and_then(|project| project.get("dependencies")));
    for name in DEVELOPMENT {
        add(extras.and_then(|extras| extras.get(name)));
    }
    let groups = parsed.get("dependency-groups");
    for name in DEVELOPMENT {
        group(groups, name, &mut BTreeSet::new(), &mut lines);
    }
    if let Some(line) = lines.iter().find(|line| line.contains("file:")) {
        return bad(&format!("`{line}` is a local package"), "name one of an index");
    }
    lines.dedup();
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// The lines of a dependency group, and of those that it includes.
fn group(groups: Option<&Toml>, name: &str, seen: &mut BTreeSet<String>, lines: &mut Vec<String>) {
    if !seen.insert(name.to_owned()) {
        return;
    }
    let list = groups.and_then(|groups| groups.get(name)).and_then(Toml::as_array);
    for item in list.into_iter().flatten() {
        match (item.as_str(), item.get("include-group").and_then(Toml::as_str)) {
            (Some(line), _) => lines.push(line.to_owned()),
            (None, Some(other)) => group(groups, other, seen, lines),
            (None, None) => {}
        }
    }
}

/// # Errors
/// If uv would take a package from this machine.
fn local_sources(parsed: &Toml) -> Result<()> {
    let uv = parsed.get("tool").and_then(|tool| tool.get("uv"));
    let sources = uv.and_then(|uv| uv.get("sources")).and_then(Toml::as_table);
    for (name, source) in sources.into_iter().flatten() {
        if source.get("path").is_some() || source.get("workspace").is_some() {
            let message = format!("`{name}` is a local package");
            let hint = "only manifests enter the installation: take it from an index";
            return Err(Problem::in_file("pyproject.toml", message, hint));
        }
    }
    Ok(())
}

/// A lock file of pipenv, as requirements with hashes.
fn pipfile(text: &str) -> Result<String> {
    let bad = |message: String| {
        let hint = "make it anew with `pipenv lock`; packages must come from an index";
        Problem::in_file("Pipfile.lock", message, hint)
    };
    let lock: Json = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    let index = sources::of_pipfile(&lock).map_err(bad)?;
    let mut lines = BTreeSet::new();
    for section in ["default", "develop"] {
        let packages = lock.get(section).and_then(Json::as_object);
        for (name, package) in packages.into_iter().flatten() {
            let text = |key: &str| package.get(key).and_then(Json::as_str);
            let version = text("version")
                .ok_or_else(|| bad(format!("`{name}` has no version of an index")))?;
            let list = |key: &str| package.get(key).and_then(Json::as_array).into_iter().flatten();
            let extras: Vec<&str> = list("extras").filter_map(Json::as_str).collect();
            let extras =
                if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
            let markers =
                text("markers").map(|markers| format!(" ; {markers}")).unwrap_or_default();
            let hashes = list("hashes").filter_map(Json::as_str);
            let hashes: String = hashes.map(|hash| format!(" --hash={hash}")).collect();
            let line = format!("{name}{extras}{version}{markers}{hashes}\n");
            if line.trim_end().contains(['\n', '\r']) {
                return Err(bad(format!("`{}` breaks its line", name.escape_debug())));
            }
            lines.insert(line);
        }
    }
    let index = index.map(|url| format!("--index-url {url}\n"));
    Ok(index.into_iter().chain(lines).collect())
}
