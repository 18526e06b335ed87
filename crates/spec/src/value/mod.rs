//! The forms that values have: each parsed once, from text, with words for what was expected.

mod host;
mod image;
mod interpolation;
mod name;
mod units;
mod version;

pub(crate) use host::bare as bare_host;
pub use host::host_name;
pub use image::BaseImage;
pub use interpolation::{Part, Text};
pub(crate) use name::nearest as nearest_label;
pub use name::{label, variable};
pub use units::{bytes, cores, disk, duration, memory, show_bytes, show_cores, show_duration};
pub use version::VersionRequest;

/// Why a text is not a value: where in it, what is wrong there, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Bytes of the text, where only a part of it is wrong.
    pub part: Option<std::ops::Range<usize>>,
    pub why: String,
    pub expected: &'static str,
    /// A text that would do, where one is near.
    pub instead: Option<String>,
}

impl Wrong {
    pub(crate) fn new(why: impl Into<String>, expected: &'static str) -> Self {
        Self { part: None, why: why.into(), expected, instead: None }
    }

    #[must_use]
    pub(crate) fn at(mut self, part: std::ops::Range<usize>) -> Self {
        self.part = Some(part);
        self
    }

    #[must_use]
    pub(crate) fn instead(mut self, text: impl Into<String>) -> Self {
        self.instead = Some(text.into());
        self
    }
}

pub type Parsed<T> = Result<T, Wrong>;
