//! Names of hosts, in one spelling.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name that DNS can hold: lower case, without the final dot, 1 to 253 bytes, and nothing that
/// some resolver takes for an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Domain {
    /// As many may be one sandbox's own.
    pub const MOST_OF_A_SANDBOX: usize = 32;
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(64).collect();
        let bad = |why: &str| Err(format!("`{shown}` is no domain: {why}"));
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return bad("1 to 253 characters are allowed");
        }
        if !name.is_ascii() {
            return bad("write international names in their xn-- form");
        }
        for label in name.split('.') {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if label.is_empty() || label.len() > 63 || !label.bytes().all(inner) {
                return bad("its parts are 1 to 63 of a-z, 0-9, - and _");
            }
            if label.starts_with('-') || label.ends_with('-') {
                return bad("no part may start or end with -");
            }
        }
        // `127.1`, `0x7f.1` and `2130706433` are addresses to many programs.
        let last = name.rsplit('.').next().unwrap_or_default();
        let number = last.bytes().all(|b| b.is_ascii_digit())
            || last
                .strip_prefix("0x")
                .or(last.strip_prefix("0X"))
                .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if number {
            return bad("its last part is a number");
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::by_text!(Domain);

/// Which domains: one, or all below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    Exact(Domain),
    /// `*.domain`: at any depth below it, itself not included.
    Below(Domain),
    /// `*`.
    Any,
}

impl Pattern {
    pub fn matches(&self, name: &Domain) -> bool {
        match self {
            Self::Exact(domain) => domain == name,
            Self::Below(domain) => {
                name.0.strip_suffix(&domain.0).is_some_and(|front| front.ends_with('.'))
            }
            Self::Any => true,
        }
    }

    /// Whether some name matches both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Exact(name), pattern) | (pattern, Self::Exact(name)) => pattern.matches(name),
            (Self::Below(a), Self::Below(b)) => a == b || self.matches(b) || other.matches(a),
        }
    }

    /// Of two patterns that match the same name, the greater one is the closer one.
    pub(super) fn specificity(&self) -> (bool, usize) {
        match self {
            Self::Exact(domain) => (true, domain.0.len()),
            Self::Below(domain) => (false, domain.0.len()),
            Self::Any => (false, 0),
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(Self::Any),
            Some(domain) => domain.parse().map(Self::Below),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(domain) => domain.fmt(f),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Any => f.write_str("*"),
        }
    }
}

super::by_text!(Pattern);
