//! Problems as people and as programs read them.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::{Diagnostic, Diagnostics, Source};

/// Longest line that is shown.
const MAX_LINE: usize = 300;

pub(super) fn text(diagnostics: &Diagnostics, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut blocks: Vec<String> = diagnostics
        .problems
        .iter()
        .map(|problem| renderer.render(&groups(diagnostics, problem)))
        .collect();
    if diagnostics.more > 0 {
        blocks.push(format!("and {} more", diagnostics.more));
    }
    blocks.join("\n\n")
}

fn groups<'a>(diagnostics: &'a Diagnostics, problem: &'a Diagnostic) -> Vec<Group<'a>> {
    let title = Level::ERROR.primary_title(clean(&problem.message));
    let mut group = match diagnostics.sources.get(problem.place.source) {
        Some(source) => title.element(snippet(source, problem)),
        None => Group::with_title(title),
    };
    if let Some(expected) = problem.expected.as_deref().filter(|_| has_source(diagnostics, problem))
    {
        group = group.element(Level::NOTE.message(format!("expected {expected}")));
    }
    if let Some(suggestion) = &problem.suggestion {
        group =
            group.element(Level::HELP.message(format!("did you mean `{}`?", clean(suggestion))));
    }
    vec![group]
}

fn has_source(diagnostics: &Diagnostics, problem: &Diagnostic) -> bool {
    problem.place.source < diagnostics.sources.len()
}

/// The line of the problem with the part of it underlined. A span over several lines ends with its first.
fn snippet<'a>(
    source: &'a Source,
    problem: &Diagnostic,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let text = &source.text;
    let from = boundary(text, problem.place.span.start);
    let start = text[..from].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[from..].find('\n').map_or(text.len(), |newline| from + newline);
    let to = boundary(text, problem.place.span.end).clamp(from, end);
    let (line, span) = window(&text[start..end], from - start..to - start);
    Snippet::source(line)
        .line_start(source.position(from).line)
        .path(clean(&source.name))
        .annotation(AnnotationKind::Primary.span(span))
}

/// The line, or where it is very long what stands around the span; without what drives terminals.
fn window(line: &str, span: Range<usize>) -> (String, Range<usize>) {
    let from =
        if line.len() > MAX_LINE { boundary(line, span.start.saturating_sub(60)) } else { 0 };
    let to = boundary(line, line.len().min(from + MAX_LINE));
    let before = clean(&line[from..span.start.clamp(from, to)]);
    let marked = clean(&line[span.start.clamp(from, to)..span.end.clamp(from, to)]);
    let after = clean(&line[span.end.clamp(from, to)..to]);
    let span = before.len()..before.len() + marked.len();
    (format!("{before}{marked}{after}"), span)
}

fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn clean(text: &str) -> String {
    // What turns the direction of text makes a line look like another one.
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let bad = |c: char| (c.is_control() && c != '\t') || turns(c);
    text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect()
}

pub(super) fn json(diagnostics: &Diagnostics) -> Value {
    diagnostics.problems.iter().map(|problem| one(diagnostics, problem)).collect()
}

fn one(diagnostics: &Diagnostics, problem: &Diagnostic) -> Value {
    let mut value = json!({
        "kind": problem.kind,
        "message": problem.message,
    });
    let mut put = |name: &str, text: Option<Value>| {
        if let Some(text) = text {
            value[name] = text;
        }
    };
    put("field", problem.field.clone().map(Value::from));
    put("expected", problem.expected.clone().map(Value::from));
    put("suggestion", problem.suggestion.clone().map(Value::from));
    if let Some((source, from, to)) = diagnostics.place(problem) {
        put("file", Some(source.name.clone().into()));
        put("line", Some(from.line.into()));
        put("column", Some(from.column.into()));
        put("end_line", Some(to.line.into()));
        put("end_column", Some(to.column.into()));
        put("span", Some(json!([problem.place.span.start, problem.place.span.end])));
    }
    value
}
