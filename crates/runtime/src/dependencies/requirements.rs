//! Requirement files of pip: what they include, and what in them lies on this machine.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Problem, Result,
    folder::{Folder, beside, outside, parent},
};

/// Files that include each other.
const MAX_FILES: usize = 64;
const LOCAL: &str = "only manifests enter the installation: publish the package, or leave it out and run \
                     the code from the project's directory";

/// The files `first` and everything that they include, by path.
pub(super) fn collect(folder: &Folder, first: &[String]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut waiting: Vec<String> = first.to_vec();
    let mut seen: BTreeSet<String> = first.iter().cloned().collect();
    while let Some(path) = waiting.pop() {
        let text = folder.text(&path)?.ok_or_else(|| {
            Problem::in_file(&path, "there is no such file", "another requirement file names it")
        })?;
        for (number, line) in logical(&text) {
            let place = format!("{path}:{number}");
            if let Some(reference) = check(&line, &place)? {
                let next = beside(parent(&path), &reference).ok_or_else(|| outside(&reference))?;
                if seen.insert(next.clone()) {
                    waiting.push(next);
                }
            }
        }
        found.insert(path, text);
        if found.len() > MAX_FILES {
            let message = format!("more than {MAX_FILES} files include each other");
            return Err(Problem::in_file(&first[0], message, "join some of them"));
        }
    }
    Ok(found)
}

/// Whether the file itself says where packages come from.
pub(super) fn names_an_index(text: &str) -> bool {
    let names = ["-i", "--index-url", "--extra-index-url", "--no-index"];
    logical(text).iter().any(|(_, line)| line == "--no-index" || option(line, &names).is_some())
}

/// Lines with those that continue them, without comments, each with its number from 1.
fn logical(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let (number, mut whole) = open.take().unwrap_or((at + 1, String::new()));
        if let Some(begun) = line.trim_end().strip_suffix('\\') {
            whole.push_str(begun);
            whole.push(' ');
            open = Some((number, whole));
            continue;
        }
        whole.push_str(line);
        lines.push((number, whole));
    }
    lines.extend(open);
    let plain = |line: String| {
        let end = line.find(" #").or_else(|| line.trim_start().starts_with('#').then_some(0));
        line[..end.unwrap_or(line.len())].trim().to_owned()
    };
    let lines = lines.into_iter().map(|(number, line)| (number, plain(line)));
    lines.filter(|(_, line)| !line.is_empty()).collect()
}

/// The file that a line includes, if it does.
///
/// # Errors
/// If it asks for something of this machine.
fn check(line: &str, place: &str) -> Result<Option<String>> {
    let local = |what: &str| Problem::in_file(place, format!("`{what}` is a local package"), LOCAL);
    if let Some(file) = option(line, &["-r", "--requirement", "-c", "--constraint"]) {
        return if file.contains("://") { Ok(None) } else { Ok(Some(file.to_owned())) };
    }
    if let Some(package) = option(line, &["-e", "--editable"]) {
        return if is_remote(package) { Ok(None) } else { Err(local(package)) };
    }
    if let Some(links) = option(line, &["-f", "--find-links"]) {
        return if is_remote(links) { Ok(None) } else { Err(local(links)) };
    }
    if line.starts_with('-') {
        return Ok(None);
    }
    let wanted = line.split([';', ' ']).next().unwrap_or(line);
    let source =
        line.split_once(" @ ").or_else(|| line.split_once("@ ")).map(|(_, url)| url.trim());
    match source {
        Some(url) if url.starts_with("file:") => Err(local(url)),
        Some(_) => Ok(None),
        None if is_remote(wanted) => Ok(None),
        None if is_path(wanted) => Err(local(wanted)),
        None => Ok(None),
    }
}

/// The value of an option at the start of a line, however it is written.
fn option<'a>(line: &'a str, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| {
        let rest = line.strip_prefix(name)?;
        let long = name.starts_with("--");
        let value = match rest.chars().next()? {
            '=' | ' ' | '\t' => rest.trim_start_matches(['=', ' ', '\t']),
            _ if long => return None,
            _ => rest,
        };
        Some(value.split_whitespace().next().unwrap_or("").trim_matches(['"', '\'']))
    })
}

fn is_remote(text: &str) -> bool {
    text.contains("://") && !text.starts_with("file:")
}

fn is_path(text: &str) -> bool {
    let name = text.split('[').next().unwrap_or(text);
    let archive =
        [".whl", ".tar.gz", ".zip", ".tgz", ".tar.bz2"].iter().any(|end| name.ends_with(end));
    archive || name.starts_with(['.', '/', '~']) || name.contains('/') || name.starts_with("file:")
}
