//! Where else than from PyPI a project of Python takes packages. A package of a private index that is asked
//! for by its name alone would come from whoever registered that name in public.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use toml::Value as Toml;

use super::{Problem, Result, folder::Folder, python::parse};

const PUBLIC: &str = "https://pypi.org/simple";
/// Of `[tool.uv]` and uv.toml; pip reads none.
const OF_UV: [&str; 5] = ["sources", "index", "index-url", "extra-index-url", "find-links"];

/// # Errors
/// If a manifest declares sources that pip, which is to install, does not read.
pub(super) fn none_declared(folder: &Folder) -> Result<()> {
    if let Some(text) = folder.text("pyproject.toml")? {
        let parsed = parse(&text)?;
        let tool = |name: &str| parsed.get("tool").and_then(|tool| tool.get(name));
        if let Some(key) = tool("uv").and_then(of_uv) {
            return Err(declared("pyproject.toml", &format!("[tool.uv] {key}")));
        }
        for name in ["poetry", "pdm"] {
            let listed = tool(name).and_then(|tool| tool.get("source")).and_then(Toml::as_array);
            if listed.into_iter().flatten().any(|source| !is_public(source)) {
                return Err(declared("pyproject.toml", &format!("[[tool.{name}.source]]")));
            }
        }
    }
    let Some(text) = folder.text("uv.toml")? else { return Ok(()) };
    match parse(&text).map(|parsed| of_uv(&parsed)) {
        Ok(None) => Ok(()),
        Ok(Some(key)) => Err(declared("uv.toml", key)),
        Err(_) => Err(Problem::in_file("uv.toml", "it is no TOML", "correct or remove it")),
    }
}

fn declared(file: &str, what: &str) -> Problem {
    let message = format!("{what}: pip does not read where packages come from there");
    let hint = "lock the project with `uv lock`, or write a requirements.txt that begins with \
                `--index-url` and the index";
    Problem::in_file(file, message, hint)
}

/// The key that declares a source, in the table of uv's settings or in its `pip`.
fn of_uv(settings: &Toml) -> Option<&'static str> {
    let pip = settings.get("pip");
    let tables = [Some(settings), pip];
    let declares = |key: &str| {
        tables.into_iter().flatten().filter_map(|table| table.get(key)).any(|value| match value {
            Toml::Array(list) => list.iter().any(|item| item.is_str() || !is_public(item)),
            Toml::Table(table) => !table.is_empty(),
            Toml::String(url) => !is_pypi(url),
            _ => true,
        })
    };
    OF_UV.into_iter().find(|key| declares(key))
}

fn is_public(source: &Toml) -> bool {
    match source.get("url") {
        Some(url) => url.as_str().is_some_and(is_pypi),
        // Poetry's own way to order it.
        None => {
            let name = source.get("name").and_then(Toml::as_str);
            name.is_some_and(|name| name.eq_ignore_ascii_case("pypi"))
        }
    }
}

fn is_pypi(url: &str) -> bool {
    url.trim_end_matches('/') == PUBLIC
}

/// The one index of a lock file of pipenv, unless it is the public one.
///
/// # Errors
/// In words, for several: pip asks all of them for every name.
pub(super) fn of_pipfile(lock: &Json) -> Result<Option<String>, String> {
    let listed = lock.pointer("/_meta/sources").and_then(Json::as_array);
    let listed: Vec<&Json> = listed.into_iter().flatten().collect();
    let text = |value: &Json, key: &str| value.get(key).and_then(Json::as_str).map(str::to_owned);
    let first = listed.first().and_then(|source| text(source, "name"));
    let packages =
        ["default", "develop"].into_iter().filter_map(|part| lock.get(part)?.as_object());
    let named: BTreeSet<Option<String>> = packages
        .flat_map(|packages| packages.values())
        .map(|package| text(package, "index").or_else(|| first.clone()))
        .collect();
    if named.len() > 1 {
        return Err("its packages come from several indexes, of which pip cannot choose".into());
    }
    let Some(Some(name)) = named.into_iter().next() else { return Ok(None) };
    let source = listed.iter().find(|source| text(source, "name").as_ref() == Some(&name));
    let url = source.and_then(|source| text(source, "url"));
    let url = url.ok_or_else(|| format!("it says no address of the index `{name}`"))?;
    let remote = url.starts_with("https://") || url.starts_with("http://");
    if !remote || url.contains(char::is_whitespace) || url.contains(char::is_control) {
        return Err(format!("`{}` is no address of an index", url.escape_debug()));
    }
    Ok((!is_pypi(&url)).then_some(url))
}
