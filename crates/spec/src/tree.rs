//! A TOML text as a tree in which everything knows its place.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::diagnostic::{Diagnostic, Kind};

/// Bytes of one of the sources that a project is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub source: usize,
    pub span: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// `plain` when the source holds the text between two quotes just as it is.
    String {
        text: String,
        plain: bool,
    },
    /// Integers in decimal, the rest as it was written; it may not fit any type.
    Number(String),
    Flag(bool),
    Datetime,
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

impl Value {
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::String { .. } => "a string",
            Self::Number(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::Datetime => "a date",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Node {
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The place of `part` of the text that this node is, as near as the source allows.
    pub(crate) fn part(&self, part: Option<Range<usize>>) -> Place {
        match (&self.value, part) {
            (Value::String { plain: true, .. }, Some(part)) => {
                let start = self.place.span.start + 1;
                Place { source: self.place.source, span: start + part.start..start + part.end }
            }
            _ => self.place.clone(),
        }
    }

    /// Takes over what `other` says, key by key in tables.
    pub(crate) fn overlay(&mut self, other: Self) {
        match (&mut self.value, other.value) {
            (Value::Table(mine), Value::Table(theirs)) => {
                for entry in theirs {
                    match mine.iter_mut().find(|own| own.key == entry.key) {
                        Some(own) => own.node.overlay(entry.node),
                        None => mine.push(entry),
                    }
                }
            }
            (mine, theirs) => {
                *mine = theirs;
                self.place = other.place;
            }
        }
    }
}

/// Reads `text` as far as it can be read; what cannot goes to `problems`.
pub(crate) fn parse(text: &str, source: usize, problems: &mut Vec<Diagnostic>) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let place = Place { source, span };
        problems.push(Diagnostic::new(Kind::Syntax, place, error.message()));
    }
    let place = Place { source, span: 0..0 };
    Node { place, value: table_value(table.into_inner(), text, source) }
}

fn table_value(table: DeTable<'_>, text: &str, source: usize) -> Value {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            place: Place { source, span: key.span() },
            key: key.into_inner().into_owned(),
            node: node(value, text, source),
        })
        .collect();
    entries.sort_by_key(|entry| entry.place.span.start);
    Value::Table(entries)
}

fn node(value: Spanned<DeValue<'_>>, text: &str, source: usize) -> Node {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(string) => {
            let written = text.get(span.clone()).unwrap_or_default();
            let quoted = |quote: char| {
                written.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
                    == Some(&*string)
            };
            Value::String { plain: quoted('"') || quoted('\''), text: string.into_owned() }
        }
        DeValue::Integer(number) => {
            let decimal = i64::from_str_radix(number.as_str(), number.radix());
            Value::Number(decimal.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => {
            Value::Array(items.into_iter().map(|item| node(item, text, source)).collect())
        }
        DeValue::Table(table) => table_value(table, text, source),
    };
    Node { place: Place { source, span }, value }
}
