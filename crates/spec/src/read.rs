//! Takes typed values out of the tree, and notes what does not do.

use crate::{
    diagnostic::{Diagnostic, Kind},
    keys::{self, Form, Presence},
    tree::{Entry, Node, Place, Value},
    value::{Parsed, Wrong},
};

/// Longest text of one value, in bytes.
const MAX_TEXT: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Reader<'a> {
    root: &'a Node,
    /// Where what is missing would have stood.
    end: Place,
    pub problems: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(root: &'a Node, end: Place, problems: Vec<Diagnostic>) -> Self {
        Self { root, end, problems }
    }

    pub(crate) fn note(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    pub(crate) fn entry(&self, table: &str, key: &str) -> Option<&'a Entry> {
        self.found(table)?.node.get(key)
    }

    pub(crate) fn table(&self, table: &str) -> &'a [Entry] {
        self.found(table).map_or(&[], |entry| entry.node.entries())
    }

    /// A table that is there, by its whole name.
    fn found(&self, table: &str) -> Option<&'a Entry> {
        let mut names = table.split('.');
        let top = self.root.get(names.next()?)?;
        names.try_fold(top, |outer, name| outer.node.get(name))
    }

    /// Notes what is missing as a whole: tables, and required keys in those that are there.
    pub(crate) fn required(&mut self) {
        for table in keys::TABLES.iter().filter(|table| table.is_required()) {
            let found = self.found(table.name);
            if found.is_some_and(|entry| !matches!(entry.node.value, Value::Table(_))) {
                continue;
            }
            let required = table.keys.iter().filter(|key| key.presence == Presence::Required);
            let missing: Vec<_> = required
                .filter(|key| found.is_none_or(|entry| entry.node.get(key.name).is_none()))
                .collect();
            let place = found.map_or_else(|| self.end.clone(), |entry| entry.place.clone());
            for key in missing {
                let field = format!("{}.{}", table.name, key.name);
                let message = match found {
                    Some(_) => format!("`{}` is missing in `[{}]`", key.name, table.name),
                    None => format!("`[{}]` with `{}` is missing", table.name, key.name),
                };
                let line = format!("{} = {}", key.name, key.example);
                self.note(
                    Diagnostic::new(Kind::MissingKey, place.clone(), message)
                        .field(field)
                        .expected(format!("{}, as in `{line}`", key.form.words())),
                );
            }
        }
    }

    /// A string that `parse` takes.
    pub(crate) fn string<T>(
        &mut self,
        table: &str,
        key: &str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<T> {
        let form = keys::table(table)?.key(key)?.form;
        let entry = self.entry(table, key)?;
        self.text(&entry.node, &format!("{table}.{key}"), form.words(), parse)
    }

    pub(crate) fn flag(&mut self, table: &str, key: &str) -> Option<bool> {
        let node = &self.entry(table, key)?.node;
        if let Value::Flag(flag) = node.value {
            return Some(flag);
        }
        let instead = instead(Form::Flag, &node.value);
        self.wrong_type(node, &format!("{table}.{key}"), Form::Flag.words(), instead);
        None
    }

    /// The items of an array; `None` where there is none.
    pub(crate) fn items(&mut self, table: &str, key: &str) -> Option<&'a [Node]> {
        let form = keys::table(table)?.key(key)?.form;
        let node = &self.entry(table, key)?.node;
        if let Value::Array(items) = &node.value {
            return Some(items);
        }
        let instead = instead(form, &node.value);
        self.wrong_type(node, &format!("{table}.{key}"), form.words(), instead);
        None
    }

    /// An argument list, not empty.
    pub(crate) fn arguments(&mut self, table: &str, key: &str) -> Option<Vec<String>> {
        let items = self.items(table, key)?;
        let field = format!("{table}.{key}");
        if items.is_empty() {
            let place = self.entry(table, key)?.node.place.clone();
            self.note(
                Diagnostic::new(Kind::WrongValue, place, format!("`{field}` is empty"))
                    .field(field)
                    .expected("a program and its arguments"),
            );
            return None;
        }
        let first = items.first().map(|node| node.place.span.start);
        let mut all = Vec::with_capacity(items.len());
        for node in items {
            let program = Some(node.place.span.start) == first;
            let argument = self.text(node, &field, "a string", |text| {
                if program && text.trim().is_empty() {
                    return Err(Wrong::new("names no program", "a program and its arguments"));
                }
                Ok(text.to_owned())
            });
            all.extend(argument);
        }
        (all.len() == items.len()).then_some(all)
    }

    /// The text of a node, if it is one that `parse` takes.
    pub(crate) fn text<T>(
        &mut self,
        node: &Node,
        field: &str,
        expected: &str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<T> {
        let Value::String { text, .. } = &node.value else {
            let instead = as_string(&node.value, parse);
            self.wrong_type(node, field, expected, instead);
            return None;
        };
        let parsed = match text {
            long if long.len() > MAX_TEXT => Err(Wrong::new("has more than 64 KiB", "less")),
            nul if nul.contains('\0') => Err(Wrong::new("holds NUL", "text without NUL")),
            text => parse(text),
        };
        match parsed {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.wrong_value(node, field, wrong);
                None
            }
        }
    }

    pub(crate) fn wrong_value(&mut self, node: &Node, field: &str, wrong: Wrong) {
        let problem = Diagnostic::new(
            Kind::WrongValue,
            node.part(wrong.part),
            format!("`{field}` {}", wrong.why),
        );
        let suggestion = wrong.instead.map(|text| format!("\"{text}\""));
        self.note(problem.field(field).expected(wrong.expected).suggestion(suggestion));
    }

    pub(crate) fn wrong_type(
        &mut self,
        node: &Node,
        field: &str,
        expected: &str,
        instead: Option<String>,
    ) {
        let message = format!("`{field}` is {}", node.value.words());
        self.note(
            Diagnostic::new(Kind::WrongType, node.place.clone(), message)
                .field(field)
                .expected(expected)
                .suggestion(instead),
        );
    }
}

/// The same value as a string, or the nearest one that `parse` takes.
fn as_string<T>(found: &Value, parse: impl Fn(&str) -> Parsed<T>) -> Option<String> {
    let text = match found {
        Value::Number(number) => number.clone(),
        Value::Flag(flag) => flag.to_string(),
        _ => return None,
    };
    match parse(&text) {
        Ok(_) => Some(format!("\"{text}\"")),
        Err(wrong) => wrong.instead.map(|text| format!("\"{text}\"")),
    }
}

/// What was probably meant by a value of another type, where no string was expected.
fn instead(form: Form, found: &Value) -> Option<String> {
    match (form, found) {
        (Form::Flag, Value::String { text, .. }) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some("true".to_owned()),
            "false" | "no" | "off" | "0" => Some("false".to_owned()),
            _ => None,
        },
        (Form::Flag, Value::Number(number)) => match number.as_str() {
            "1" => Some("true".to_owned()),
            "0" => Some("false".to_owned()),
            _ => None,
        },
        (Form::Ports, Value::Number(number)) => Some(format!("[{number}]")),
        (
            Form::Hosts | Form::Destinations | Form::Ranges | Form::Requests | Form::Datagrams,
            Value::String { text, .. },
        ) => Some(format!("[{text:?}]")),
        (Form::Arguments, Value::String { text, .. }) => argument_list(text),
        _ => None,
    }
}

/// A line as a list, where a shell would see nothing but words.
fn argument_list(line: &str) -> Option<String> {
    let special = |c: char| "'\"\\$`*?[]{}()<>|&;#~!\n\r\t".contains(c) || c.is_control();
    if line.trim().is_empty() || line.len() > 200 {
        return None;
    }
    if line.contains(special) {
        let line = line.replace('\\', "\\\\").replace('"', "\\\"");
        return (!line.contains(char::is_control)).then(|| format!("[\"sh\", \"-c\", \"{line}\"]"));
    }
    let words: Vec<_> = line.split_whitespace().map(|word| format!("\"{word}\"")).collect();
    Some(format!("[{}]", words.join(", ")))
}
