//! Packages of npm's registry: npm, pnpm, yarn or bun, as the lock file says.

use std::collections::BTreeMap;

use rustix::fs::FileType;
use serde_json::{Map, Value};

use super::{
    Layer, PROJECT, Problem, Result,
    folder::{Folder, beside, parent},
};

pub(super) const MODULES: &str = "node_modules";
const MANIFEST: &str = "package.json";
const PNPM: &str = "10.34.9";
const YARN_CLASSIC: &str = "1.22.22";
const YARN: &str = "4.18.1";
/// Where installers are installed that templates lack; projects call them, too.
const PREFIX: &str = "/opt/soulbox";
const MAX_MEMBERS: usize = 500;

/// Keys of a manifest that an installation depends on. The others, scripts among them, stay outside: what
/// they call is not there, and a change of them changes no package.
const KEPT: [&str; 19] = [
    "name",
    // Without it yarn 1 takes no workspaces.
    "private",
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "dependenciesMeta",
    "bundleDependencies",
    "bundledDependencies",
    "overrides",
    "resolutions",
    "workspaces",
    "engines",
    "packageManager",
    "pnpm",
    "trustedDependencies",
    "catalog",
    "catalogs",
];
const KINDS: [&str; 3] = ["dependencies", "devDependencies", "optionalDependencies"];
/// What else an installer reads, right in the project.
const SETTINGS: [&str; 5] =
    [".npmrc", ".yarnrc", ".yarnrc.yml", "bunfig.toml", "pnpm-workspace.yaml"];

const NPM_ENV: [(&str, &str); 8] = [
    ("npm_config_cache", "/tmp/.soulbox-npm"),
    ("npm_config_audit", "false"),
    ("npm_config_fund", "false"),
    ("npm_config_update_notifier", "false"),
    ("npm_config_loglevel", "http"),
    // The step is tried again as a whole.
    ("npm_config_fetch_retries", "1"),
    ("npm_config_fetch_retry_mintimeout", "1000"),
    ("CI", "1"),
];

pub(super) fn npm_env() -> &'static [(&'static str, &'static str)] {
    &NPM_ENV
}

/// Who installs, by which file.
struct Choice {
    installer: &'static str,
    lock: Option<&'static str>,
}

pub(super) fn layers(folder: &Folder) -> Result<Vec<Layer>> {
    let Some(text) = folder.text(MANIFEST)? else { return Ok(Vec::new()) };
    let package = parse(MANIFEST, &text)?;
    let choice = choose(folder, &package);
    let mut members = workspaces(folder, &package)?;
    members.retain(|path, _| path != MANIFEST);
    let asks = |package: &Map<String, Value>| {
        let lists = KINDS.iter().filter_map(|kind| package.get(*kind)?.as_object());
        lists.into_iter().any(|list| !list.is_empty())
    };
    if !asks(&package) && !members.values().any(asks) {
        return Ok(Vec::new());
    }
    let mut files = vec![manifest(MANIFEST, &package, false)?];
    for (path, package) in &members {
        files.push(manifest(path, package, true)?);
    }
    for name in SETTINGS.into_iter().chain(choice.lock) {
        if let Some(content) = folder.bytes(name)? {
            files.push((name.to_owned(), content));
        }
    }
    let mut layer = Layer {
        installer: choice.installer,
        because: choice.lock.unwrap_or(MANIFEST).to_owned(),
        target: PROJECT.to_owned(),
        files,
        paths: vec![format!("{PROJECT}/{MODULES}/.bin")],
        ..Layer::default()
    };
    layer.made = made(members.keys());
    layer.step("root", "/", &["chown", "-R", "user:user", PROJECT]);
    let tool = steps(&mut layer, &choice, &package, folder)?;
    // Some hold tokens of registries, which every sandbox of the template could read.
    layer.step("user", PROJECT, &[&["rm", "-rf", "--"], &SETTINGS[..]].concat());
    layer.tell_shells("modules");
    Ok(tool.into_iter().chain([layer]).collect())
}

fn parse(path: &str, text: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(package)) => Ok(package),
        Ok(_) => Err(Problem::in_file(path, "it is no object", "see npm's documentation")),
        Err(error) => Err(Problem::in_file(path, error.to_string(), "it must be JSON")),
    }
}

/// The lock file decides, then `packageManager`.
fn choose(folder: &Folder, package: &Map<String, Value>) -> Choice {
    const LOCKS: [(&str, &str); 6] = [
        ("bun.lock", "bun"),
        ("bun.lockb", "bun"),
        ("pnpm-lock.yaml", "pnpm"),
        ("yarn.lock", "yarn"),
        ("npm-shrinkwrap.json", "npm"),
        ("package-lock.json", "npm"),
    ];
    // Links count: where one leads is found out when it is read.
    if let Some((lock, installer)) = LOCKS.into_iter().find(|(lock, _)| folder.is_listed(lock)) {
        return Choice { installer, lock: Some(lock) };
    }
    let named = package.get("packageManager").and_then(Value::as_str).unwrap_or_default();
    let named = named.split('@').next().unwrap_or_default();
    let installer = ["bun", "pnpm", "yarn"].into_iter().find(|known| *known == named);
    let by_settings = folder.is_listed("bunfig.toml").then_some("bun");
    Choice { installer: installer.or(by_settings).unwrap_or("npm"), lock: None }
}

/// Where packages land: beside each manifest.
fn made<'a>(members: impl Iterator<Item = &'a String>) -> Vec<String> {
    let beside = members.map(|manifest| format!("{}/{MODULES}", parent(manifest)));
    std::iter::once(MODULES.to_owned()).chain(beside).collect()
}

/// What of a manifest goes in.
fn manifest(path: &str, package: &Map<String, Value>, member: bool) -> Result<(String, Vec<u8>)> {
    for kind in KINDS {
        let list = package.get(kind).and_then(Value::as_object);
        for (name, wanted) in list.into_iter().flatten() {
            let wanted = wanted.as_str().unwrap_or_default();
            let local = ["file:", "link:", "portal:", "./", "../", "/", "~/"];
            if local.iter().any(|start| wanted.starts_with(start)) {
                let message = format!("`{name}`: `{wanted}` is a local package");
                let hint =
                    "only manifests enter the installation: make it a workspace, or publish it";
                return Err(Problem::in_file(path, message, hint));
            }
        }
    }
    // Members are found by their versions, too.
    let kept = |key: &str| KEPT.contains(&key) || (member && matches!(key, "version" | "bin"));
    let kept: Map<String, Value> =
        package.iter().filter(|(key, _)| kept(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok((path.to_owned(), Value::Object(kept).to_string().into_bytes()))
}

/// The manifests of a project's parts, by path.
fn workspaces(
    folder: &Folder,
    package: &Map<String, Value>,
) -> Result<BTreeMap<String, Map<String, Value>>> {
    let mut patterns = Vec::new();
    let listed = match package.get("workspaces") {
        Some(Value::Object(long)) => long.get("packages"),
        short => short,
    };
    let listed = listed.and_then(Value::as_array);
    patterns.extend(listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    if let Some(text) = folder.text("pnpm-workspace.yaml")? {
        patterns.extend(listed_in(&text));
    }
    let mut members = BTreeMap::new();
    for pattern in patterns {
        let unknown = || {
            let message = format!("`{pattern}` is a pattern that is not read");
            Problem::in_file("workspaces", message, "name the directories, or write `directory/*`")
        };
        let path = beside("", &pattern).ok_or_else(unknown)?;
        // Of the project itself, too: `*`.
        let above = if path == "*" { Some("") } else { path.strip_suffix("/*") };
        let folders = match above {
            Some(above) => {
                let place = if above.is_empty() { "." } else { above };
                let names = folder.names(place, &[FileType::Directory]);
                names.into_iter().map(|name| within(above, &name)).collect()
            }
            None => vec![path.clone()],
        };
        if folders.iter().any(|folder| folder.contains(['*', '!', '{', '['])) {
            return Err(unknown());
        }
        for member in folders {
            let path = within(&member, MANIFEST);
            if let Some(text) = folder.text(&path)? {
                let package = parse(&path, &text)?;
                members.insert(path, package);
            }
        }
        if members.len() > MAX_MEMBERS {
            let message = format!("more than {MAX_MEMBERS} parts");
            return Err(Problem::in_file("workspaces", message, "install them part by part"));
        }
    }
    Ok(members)
}

/// A path below a directory of the project, which is empty for the project's own.
fn within(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The list `packages` of a YAML file that pnpm writes, with an item on each line or all on one.
fn listed_in(text: &str) -> Vec<String> {
    let uncommented = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
    let unquoted = |item: &str| item.trim().trim_matches(['"', '\'']).to_owned();
    let mut lines = text.lines().skip_while(|line| !line.starts_with("packages:"));
    let first = lines.next().and_then(|line| line.strip_prefix("packages:"));
    let first = first.map(uncommented).unwrap_or_default();
    if let Some(list) = first.strip_prefix('[') {
        let rest: String = lines.map(uncommented).collect();
        let list = format!("{list}{rest}");
        let items = list.split(']').next().unwrap_or_default().split(',').map(unquoted);
        return items.filter(|item| !item.is_empty()).collect();
    }
    let items = lines
        .take_while(|line| line.trim().is_empty() || line.trim_start().starts_with(['-', '#']));
    let item = |line: &str| Some(unquoted(uncommented(line).strip_prefix('-')?));
    items.filter_map(item).collect()
}

fn steps(
    layer: &mut Layer,
    choice: &Choice,
    package: &Map<String, Value>,
    folder: &Folder,
) -> Result<Option<Layer>> {
    let locked = choice.lock.is_some();
    match choice.installer {
        "bun" => {
            layer.step("user", PROJECT, &["sh", "-c", BUN_IS_THERE]);
            let frozen: &[&str] = if locked { &["--frozen-lockfile"] } else { &["--no-save"] };
            let argv = [&["bun", "install"], frozen].concat();
            let env = [("BUN_INSTALL_CACHE_DIR", "/tmp/.soulbox-bun"), ("CI", "1")];
            layer.step("user", PROJECT, &argv).fetching(&env);
        }
        "pnpm" => {
            let version = version(package, "pnpm")?.unwrap_or_else(|| PNPM.to_owned());
            let (tool, program) = tool("pnpm", &version, "bin/pnpm.cjs");
            let frozen = if locked { "--frozen-lockfile" } else { "--no-frozen-lockfile" };
            let more =
                ["install", frozen, "--reporter=append-only", "--store-dir=/tmp/.soulbox-pnpm"];
            let env = [("npm_config_manage_package_manager_versions", "false"), ("CI", "1")];
            layer
                .step("user", PROJECT, &[&["node", program.as_str()][..], &more].concat())
                .fetching(&env);
            return Ok(Some(tool));
        }
        "yarn" => return yarn(layer, package, folder, locked).map(Some),
        _ => {
            let argv: &[&str] =
                if locked { &["npm", "ci"] } else { &["npm", "install", "--no-package-lock"] };
            layer.step("user", PROJECT, argv).fetching(npm_env());
        }
    }
    Ok(None)
}

const BUN_IS_THERE: &str = "command -v bun >/dev/null || { echo 'this template has no bun: set \
                            template.base_image to \"bun\"' >&2; exit 1; }";

fn yarn(
    layer: &mut Layer,
    package: &Map<String, Value>,
    folder: &Folder,
    locked: bool,
) -> Result<Layer> {
    let named = version(package, "yarn")?;
    let lock = folder.text("yarn.lock")?.unwrap_or_default();
    let classic = match &named {
        Some(version) => version.starts_with("1."),
        None => !lock.contains("__metadata:") && !folder.is_listed(".yarnrc.yml"),
    };
    let cache = ("YARN_CACHE_FOLDER", "/tmp/.soulbox-yarn");
    if classic {
        let version = named.unwrap_or_else(|| YARN_CLASSIC.to_owned());
        let (tool, program) = tool("yarn", &version, "bin/yarn.js");
        let frozen = if locked { "--frozen-lockfile" } else { "--no-lockfile" };
        let argv = ["node", &program, "install", frozen, "--non-interactive"];
        // The program that .yarnrc names is not there.
        layer.step("user", PROJECT, &argv).fetching(&[cache, ("YARN_IGNORE_PATH", "1")]);
        return Ok(tool);
    }
    let version = named.unwrap_or_else(|| YARN.to_owned());
    let (tool, program) = tool("@yarnpkg/cli-dist", &version, "bin/yarn.js");
    let argv = ["node", program.as_str(), "install"];
    let immutable = if locked { "true" } else { "false" };
    let env = [
        cache,
        ("YARN_ENABLE_GLOBAL_CACHE", "false"),
        ("YARN_ENABLE_IMMUTABLE_INSTALLS", immutable),
        ("YARN_ENABLE_TELEMETRY", "false"),
        // The program that the project names is not there; packages lie where every program looks.
        ("YARN_IGNORE_PATH", "1"),
        ("YARN_NODE_LINKER", "node-modules"),
    ];
    layer.step("user", PROJECT, &argv).fetching(&env);
    Ok(tool)
}

/// The layer that brings an installer, and where its program lies then.
fn tool(package: &str, version: &str, program: &str) -> (Layer, String) {
    let wanted = format!("{package}@{version}");
    let mut tool = Layer::of_tool("npm", wanted.clone(), &format!("{PREFIX}/bin"));
    let argv = ["npm", "install", "--global", "--prefix", PREFIX, &wanted];
    tool.step("root", "/", &argv).fetching(npm_env());
    tool.tell_shells("tool");
    (tool, format!("{PREFIX}/lib/node_modules/{package}/{program}"))
}

/// The version of an installer that `packageManager` names.
fn version(package: &Map<String, Value>, installer: &str) -> Result<Option<String>> {
    let Some(named) = package.get("packageManager").and_then(Value::as_str) else {
        return Ok(None);
    };
    let Some((_, version)) = named.split_once('@').filter(|(name, _)| *name == installer) else {
        return Ok(None);
    };
    let version = version.split('+').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if version.is_empty()
        || !version.starts_with(|c: char| c.is_ascii_digit())
        || !version.chars().all(plain)
    {
        let message = format!("packageManager: `{named}` names no version");
        return Err(Problem::in_file(MANIFEST, message, "write it as `pnpm@10.2.0`"));
    }
    Ok(Some(version.to_owned()))
}
