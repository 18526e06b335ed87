//! From text to a project, or to everything that is wrong.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Component, Path},
};

use semver::Version;
use soulbox_model::{Port, network::Domain};

use crate::{
    Against, Commands, Diagnostics, Identity, Limits, Network, Project, ProjectDir, Security,
    TemplateSpec,
    diagnostic::{Diagnostic, Kind, Source},
    keys,
    read::Reader,
    rules::{self, Rules},
    suggest,
    tree::{self, Entry, Node, Place, Value},
    value::{self, BaseImage, Parsed, Text, VersionRequest, Wrong},
};

/// Most entries of one table or array.
pub(crate) const MAX_ENTRIES: usize = 256;

/// What a file is read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub against: &'a Against,
    /// Where the programs of the project lie, if that is known.
    pub dir: Option<&'a ProjectDir>,
}

pub(crate) fn project(
    text: &str,
    file_name: &str,
    context: Context<'_>,
) -> Result<Project, Diagnostics> {
    let mut sources = vec![Source { name: file_name.to_owned(), text: text.to_owned() }];
    let mut problems = Vec::new();
    let mut root = tree::parse(text, 0, &mut problems);
    for over in &context.against.overrides {
        let index = sources.len();
        sources.push(Source { name: over.origin.clone(), text: over.text.clone() });
        root.overlay(tree::parse(&over.text, index, &mut problems));
    }
    let end = Place { source: 0, span: text.len()..text.len() };
    let broken = !problems.is_empty();
    let mut reader = Reader::new(&root, end, problems);
    known(&root, None, &mut reader);
    // What cannot be read at all may well be what seems to be missing.
    if !broken {
        reader.required();
    }
    match assemble(&mut reader, context) {
        Some(project) if reader.problems.is_empty() => Ok(project),
        _ => {
            let problems = without_echoes(&sources, reader.problems);
            Err(Diagnostics::new(sources, problems))
        }
    }
}

/// Without problems of values on lines that could not be read: they are of what was made up in their
/// place.
fn without_echoes(sources: &[Source], mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let line = |problem: &Diagnostic| {
        let source = sources.get(problem.place.source)?;
        Some((problem.place.source, source.position(problem.place.span.start).line))
    };
    let syntax = |problem: &&Diagnostic| problem.kind == Kind::Syntax;
    let broken: HashSet<_> = problems.iter().filter(syntax).filter_map(line).collect();
    if !broken.is_empty() {
        problems
            .retain(|p| p.kind == Kind::Syntax || line(p).is_none_or(|at| !broken.contains(&at)));
    }
    problems
}

/// Notes tables and keys of `outer`, or of the top, that are none.
fn known(node: &Node, outer: Option<&keys::Table>, reader: &mut Reader<'_>) {
    for entry in node.entries() {
        let is_key = outer.is_some_and(|outer| outer.key(&entry.key).is_some());
        let name = outer.map(|outer| outer.name);
        let table = keys::tables_in(name).find(|table| table.place().1 == entry.key);
        match table {
            Some(table) if !matches!(entry.node.value, Value::Table(_)) => {
                let expected = format!("a table that begins with [{}]", table.name);
                reader.wrong_type(&entry.node, table.name, &expected, None);
            }
            Some(table) if table.is_open() => {}
            Some(table) => known(&entry.node, Some(table), reader),
            None if is_key => {}
            None => reader.note(unknown(entry, name)),
        }
    }
}

fn unknown(entry: &Entry, table: Option<&str>) -> Diagnostic {
    let shown: String = entry.key.chars().take(64).collect();
    let what = if matches!(entry.node.value, Value::Table(_)) { "table" } else { "key" };
    let (message, field) = match table {
        Some(table) => (format!("`{shown}` is no key of `[{table}]`"), format!("{table}.{shown}")),
        None => (format!("`{shown}` is no {what} of a project file"), shown),
    };
    let names = keys::names_in(table);
    Diagnostic::new(Kind::UnknownKey, entry.place.clone(), message)
        .field(field)
        .expected(format!("one of {}", names.join(", ")))
        .suggestion(suggest::name(&entry.key, table))
}

/// Reads every value, so that every problem is found; `None` where one is missing.
fn assemble(reader: &mut Reader<'_>, context: Context<'_>) -> Option<Project> {
    let identity = identity(reader);
    let template = template(reader);
    let commands = commands(reader, context.dir);
    let resources = limits(reader, context.against.cores);
    let environment = environment(reader);
    let network = network(reader);
    let mut flag = |key| reader.flag("security", key).unwrap_or(false);
    let security = Security {
        allow_docker: flag("allow_docker"),
        allow_sudo: flag("allow_sudo"),
        read_only: flag("read_only"),
    };
    Some(Project {
        project: identity?,
        template: template?,
        commands: commands?,
        resources,
        environment,
        network,
        security,
    })
}

fn identity(reader: &mut Reader<'_>) -> Option<Identity> {
    let name = reader.string("project", "name", value::label);
    let version = reader.string("project", "version", version);
    let description = reader.string("project", "description", |text| Ok(text.to_owned()));
    Some(Identity { name: name?, version: version?, description })
}

fn version(text: &str) -> Parsed<Version> {
    Version::parse(text).map_err(|error| {
        let wrong = Wrong::new(format!("is not SemVer: {error}"), "three numbers as \"1.2.3\"");
        let bare = text.trim().trim_start_matches(['v', 'V', '=', ' ']);
        let filled = match bare.split('.').count() {
            1 => format!("{bare}.0.0"),
            2 => format!("{bare}.0"),
            _ => bare.to_owned(),
        };
        if filled != text && Version::parse(&filled).is_ok() {
            wrong.instead(filled)
        } else {
            wrong
        }
    })
}

fn template(reader: &mut Reader<'_>) -> Option<TemplateSpec> {
    let name = reader.string("template", "name", value::label);
    let base_image = reader.string("template", "base_image", BaseImage::parse);
    let python_version = reader.string("template", "python_version", VersionRequest::parse);
    let nodejs_version = reader.string("template", "nodejs_version", VersionRequest::parse);
    let build_args = build_args(reader);
    Some(TemplateSpec {
        name: name?,
        base_image: base_image?,
        python_version,
        nodejs_version,
        build_args,
    })
}

fn build_args(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let Some(entry) = reader.entry("template", "build_args") else { return BTreeMap::new() };
    if !matches!(entry.node.value, Value::Table(_)) {
        let expected = keys::Form::Strings.words();
        reader.wrong_type(&entry.node, "template.build_args", expected, None);
    }
    strings(reader, "template.build_args", entry.node.entries(), |text| Ok(text.to_owned()))
}

/// A table whose keys are names of variables.
fn strings<T>(
    reader: &mut Reader<'_>,
    table: &str,
    entries: &[Entry],
    parse: impl Fn(&str) -> Parsed<T>,
) -> BTreeMap<String, T> {
    bounded(reader, table, entries, MAX_ENTRIES, |entry| &entry.place);
    let mut all = BTreeMap::new();
    for entry in entries.iter().take(MAX_ENTRIES) {
        let shown: String = entry.key.chars().take(64).collect();
        let field = format!("{table}.{shown}");
        if let Err(wrong) = value::variable(&entry.key) {
            reader.note(
                Diagnostic::new(
                    Kind::WrongValue,
                    entry.place.clone(),
                    format!("`{field}` {}", wrong.why),
                )
                .field(&field)
                .expected(wrong.expected),
            );
        }
        let value = reader.text(&entry.node, &field, "a string", &parse);
        all.extend(value.map(|value| (entry.key.clone(), value)));
    }
    all
}

/// Notes what is beyond the `most` things that a field may have.
pub(crate) fn bounded<'a, T>(
    reader: &mut Reader<'_>,
    field: &str,
    all: &'a [T],
    most: usize,
    place: impl Fn(&'a T) -> &'a Place,
) {
    if let Some(place) = all.get(most).map(place) {
        let count = all.len();
        let message = format!("`{field}` has {count} entries");
        reader.note(
            Diagnostic::new(Kind::WrongValue, place.clone(), message)
                .field(field)
                .expected(format!("{most} at most")),
        );
    }
}

fn commands(reader: &mut Reader<'_>, dir: Option<&ProjectDir>) -> Option<Commands> {
    for key in ["start", "ready", "test"] {
        program_stays(reader, key, dir);
    }
    let start = reader.arguments("commands", "start");
    let ready = reader.arguments("commands", "ready");
    let test = reader.arguments("commands", "test");
    Some(Commands { start: start?, ready, test })
}

/// Notes a program that is given by a path, and lies outside of the project.
fn program_stays(reader: &mut Reader<'_>, key: &str, dir: Option<&ProjectDir>) {
    let Some(entry) = reader.entry("commands", key) else { return };
    let Value::Array(items) = &entry.node.value else { return };
    let Some((node, Value::String { text, .. })) = items.first().map(|node| (node, &node.value))
    else {
        return;
    };
    let path = Path::new(text);
    if !text.contains('/') || path.is_absolute() || text.contains('\0') {
        return;
    }
    if climbs(path) || dir.is_some_and(|dir| dir.leaves(path)) {
        let field = format!("commands.{key}");
        reader.note(
            Diagnostic::new(
                Kind::Path,
                node.place.clone(),
                format!("`{field}` leaves the project"),
            )
            .field(field)
            .expected("a program in the directory of the file, which no link leads out of"),
        );
    }
}

/// Whether `..` leads above where the path begins.
fn climbs(path: &Path) -> bool {
    let mut depth = 0i32;
    path.components().any(|part| {
        match part {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
        depth < 0
    })
}

fn limits(reader: &mut Reader<'_>, host: Option<u32>) -> Limits {
    let cores = |text: &str| match (value::cores(text)?, host) {
        (millis, Some(host)) if millis > host.saturating_mul(1000) => {
            let why = format!("is more than the {host} cores of this host");
            Err(Wrong::new(why, "at most what the host has"))
        }
        (millis, _) => Ok(millis),
    };
    let fallback = Limits::default();
    Limits {
        cpu_millis: reader.string("resources", "cpu", cores).unwrap_or(fallback.cpu_millis),
        memory_bytes: reader
            .string("resources", "memory", value::memory)
            .unwrap_or(fallback.memory_bytes),
        disk_bytes: reader.string("resources", "disk", value::disk).unwrap_or(fallback.disk_bytes),
        timeout: reader.string("resources", "timeout", value::duration).unwrap_or(fallback.timeout),
    }
}

fn environment(reader: &mut Reader<'_>) -> BTreeMap<String, Text> {
    let entries = reader.table("environment");
    strings(reader, "environment", entries, Text::parse)
}

fn network(reader: &mut Reader<'_>) -> Network {
    let Rules { allow_internet, allow_out, deny_out, requests } = rules::read(reader);
    let ports = list(reader, ("network", "ports"), MAX_ENTRIES, port);
    let domains =
        list(reader, ("network", "domains"), Domain::MOST_OF_A_SANDBOX, |reader, node| {
            reader.text(node, "network.domains", "a host name", value::host_name)
        });
    if ports.is_empty()
        && !domains.is_empty()
        && reader.entry("network", "ports").is_none_or(
            |entry| matches!(&entry.node.value, Value::Array(items) if items.is_empty()),
        )
        && let Some(entry) = reader.entry("network", "domains")
    {
        let message = "`network.domains` lead to the first port, and `network.ports` has none";
        reader.note(
            Diagnostic::new(Kind::Conflict, entry.place.clone(), message)
                .field("network.domains")
                .expected("a port in `network.ports` as well"),
        );
    }
    Network { ports, allow_internet, domains, allow_out, deny_out, requests }
}

/// The items of an array, which differ.
pub(crate) fn list<'a, T: Clone + Eq + std::hash::Hash>(
    reader: &mut Reader<'a>,
    key: (&str, &str),
    most: usize,
    parse: impl Fn(&mut Reader<'a>, &'a Node) -> Option<T>,
) -> Vec<T> {
    placed(reader, key, most, parse).into_iter().map(|(item, _)| item).collect()
}

/// The same, each with where it is.
pub(crate) fn placed<'a, T: Clone + Eq + std::hash::Hash>(
    reader: &mut Reader<'a>,
    (table, key): (&str, &str),
    most: usize,
    parse: impl Fn(&mut Reader<'a>, &'a Node) -> Option<T>,
) -> Vec<(T, &'a Node)> {
    let field = format!("{table}.{key}");
    let items = reader.items(table, key).unwrap_or_default();
    bounded(reader, &field, items, most, |node| &node.place);
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for node in items.iter().take(most) {
        let Some(item) = parse(reader, node) else { continue };
        if seen.insert(item.clone()) {
            all.push((item, node));
        } else {
            let twice = Wrong::new("has this twice", "each once");
            reader.wrong_value(node, &field, twice);
        }
    }
    all
}

fn port(reader: &mut Reader<'_>, node: &Node) -> Option<Port> {
    const FIELD: &str = "network.ports";
    let Value::Number(text) = &node.value else {
        let instead = match &node.value {
            Value::String { text, .. } => text.trim().parse::<u16>().ok().map(|n| n.to_string()),
            _ => None,
        };
        reader.wrong_type(node, FIELD, "a number from 1 to 65535", instead);
        return None;
    };
    match text.parse::<Port>() {
        Ok(port) if port == Port::AGENT => {
            let wrong = Wrong::new("has the port of the sandbox's own agent", "any other port");
            reader.wrong_value(node, FIELD, wrong);
            None
        }
        Ok(port) => Some(port),
        Err(_) => {
            let wrong = Wrong::new("has a number that is no port", "1 to 65535");
            reader.wrong_value(node, FIELD, wrong);
            None
        }
    }
}
