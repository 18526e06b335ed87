//! Versions of interpreters, in full or in part.

use std::fmt;

use super::{Parsed, Wrong};

const FORM: &str = "a version in full or in part, as \"3\", \"3.12\" or \"3.12.4\"";

/// `3`, `3.12` or `3.12.4`: any release that begins with these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionRequest {
    pub major: u32,
    pub minor: Option<u32>,
    pub patch: Option<u32>,
}

impl VersionRequest {
    /// # Errors
    /// For anything but one to three numbers with points between them.
    pub fn parse(text: &str) -> Parsed<Self> {
        let wrong = |why: &str| {
            let plain = text.trim_start_matches(|c: char| !c.is_ascii_digit());
            let wrong = Wrong::new(why, FORM);
            match Self::numbers(plain) {
                Some(_) if plain != text => wrong.instead(plain),
                _ => wrong,
            }
        };
        Self::numbers(text).ok_or_else(|| wrong("is not a version"))
    }

    fn numbers(text: &str) -> Option<Self> {
        let number = |part: &str| {
            let plain = (1..=6).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<u32>().ok()).flatten()
        };
        let mut parts = text.split('.');
        let major = number(parts.next()?)?;
        let mut next = || parts.next().map(number);
        let (minor, patch) = (next(), next());
        if parts.next().is_some() || minor == Some(None) || patch == Some(None) {
            return None;
        }
        Some(Self { major, minor: minor.flatten(), patch: patch.flatten() })
    }

    /// Whether the release `version` (`3.12.4`, `v22.1.0`) is one of those asked for.
    pub fn matches(&self, version: &str) -> bool {
        let core = version.trim().trim_start_matches('v');
        let core = core.split(['-', '+', ' ']).next().unwrap_or(core);
        let mut parts = core.split('.').map(|part| part.parse::<u32>().ok());
        let mut is = |wanted: Option<u32>| match (wanted, parts.next().flatten()) {
            (None, _) => true,
            (Some(wanted), found) => found == Some(wanted),
        };
        is(Some(self.major)) && is(self.minor) && is(self.patch)
    }
}

impl fmt::Display for VersionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major)?;
        for part in [self.minor, self.patch].into_iter().flatten() {
            write!(f, ".{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_enough() {
        for text in ["3", "3.12", "3.12.4", "22"] {
            assert_eq!(VersionRequest::parse(text).map(|v| v.to_string()).as_deref(), Ok(text));
        }
        for bad in ["", "x", "3.", ".3", "3.x", "3.12.4.1", "3.12rc1", "9999999", "3 "] {
            assert!(VersionRequest::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(VersionRequest::parse(">=3.12").unwrap_err().instead.as_deref(), Some("3.12"));
        assert_eq!(VersionRequest::parse("v22").unwrap_err().instead.as_deref(), Some("22"));
    }

    #[test]
    fn a_part_matches_every_release_of_it() {
        let wanted = VersionRequest::parse("3.1").unwrap();
        assert!(wanted.matches("3.1.9") && wanted.matches("v3.1"));
        assert!(!wanted.matches("3.12.0") && !wanted.matches("3") && !wanted.matches("x"));
    }
}
