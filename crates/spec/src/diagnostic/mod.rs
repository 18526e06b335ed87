//! What is wrong with a project file, and where.

mod place;
mod render;

use serde::Serialize;
use soulbox_model::Error;

pub use place::{Position, Source};

use crate::tree::Place;

/// How many problems of one file are told.
pub const MAX_PROBLEMS: usize = 100;

/// What sort of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Not TOML.
    Syntax,
    UnknownKey,
    MissingKey,
    WrongType,
    WrongValue,
    /// Two values that do not go together.
    Conflict,
    /// A path of the project that does not do.
    Path,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub kind: Kind,
    /// `table.key`, where it is about one.
    pub field: Option<String>,
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What to write instead.
    pub suggestion: Option<String>,
    pub(crate) place: Place,
}

impl Diagnostic {
    pub(crate) fn new(kind: Kind, place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, field: None, message, expected: None, suggestion: None, place }
    }

    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn suggestion(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

/// Everything that is wrong, in the order of the text; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    sources: Vec<Source>,
    problems: Vec<Diagnostic>,
    /// How many there are beyond [`MAX_PROBLEMS`].
    more: usize,
}

impl Diagnostics {
    pub(crate) fn new(sources: Vec<Source>, mut problems: Vec<Diagnostic>) -> Self {
        problems.sort_by_key(|problem| (problem.place.source, problem.place.span.start));
        problems.dedup();
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        Self { sources, problems, more }
    }

    pub fn problems(&self) -> &[Diagnostic] {
        &self.problems
    }

    /// Problems in all, those included that are not kept.
    pub fn count(&self) -> usize {
        self.problems.len() + self.more
    }

    /// Where a problem begins and ends, and in what.
    pub fn place<'a>(&'a self, problem: &Diagnostic) -> Option<(&'a Source, Position, Position)> {
        let source = self.sources.get(problem.place.source)?;
        let span = &problem.place.span;
        Some((source, source.position(span.start), source.position(span.end)))
    }

    /// For people, with the lines and the spans underlined.
    pub fn render(&self, colour: bool) -> String {
        render::text(self, colour)
    }

    /// For programs: `[{file, line, column, end_line, end_column, kind, field, message, …}]`. Lines and
    /// columns count from 1, columns in characters.
    pub fn to_json(&self) -> serde_json::Value {
        render::json(self)
    }
}

impl std::fmt::Display for Diagnostics {
    /// The first problem in one line, and how many more there are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(first) = self.problems.first() else { return f.write_str("nothing is wrong") };
        if let Some((source, from, _)) = self.place(first) {
            write!(f, "{}:{}:{}: ", source.name, from.line, from.column)?;
        }
        f.write_str(&first.message)?;
        match self.count() - 1 {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for Error {
    fn from(diagnostics: Diagnostics) -> Self {
        let first = diagnostics.problems.first();
        Self::Configuration {
            field: first.and_then(|p| p.field.clone()).unwrap_or_else(|| "soulbox.toml".to_owned()),
            message: diagnostics.to_string(),
            span: first.map(|p| p.place.span.clone()),
        }
    }
}
