//! Secrets that a sandbox uses without holding them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Domain, Pattern, SecretName};
use crate::id::random_text;

/// What a sandbox holds in the place of a value: `soulbox_secret_` and 26 of a-z and 0-9.
///
/// It is worth nothing elsewhere, and no client encodes any of its characters in a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Marker(String);

impl Marker {
    pub const PREFIX: &'static str = "soulbox_secret_";
    /// In bytes, the prefix included.
    pub const LENGTH: usize = Self::PREFIX.len() + Self::RANDOM;
    const RANDOM: usize = 26;

    /// About 134 bits of randomness.
    pub fn random() -> Self {
        Self(format!("{}{}", Self::PREFIX, random_text(Self::RANDOM)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Marker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let random = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        match text.strip_prefix(Self::PREFIX) {
            Some(rest) if rest.len() == Self::RANDOM && rest.bytes().all(random) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(format!("a placeholder is {} and {} of a-z, 0-9", Self::PREFIX, Self::RANDOM)),
        }
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::by_text!(Marker);

/// A secret whose placeholder one sandbox holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub marker: Marker,
    pub secret: SecretName,
    /// What the secret was bound to when the sandbox was made. Where it is bound to less by now, that
    /// counts.
    pub hosts: Vec<Pattern>,
}

impl Grant {
    pub fn is_for(&self, host: &Domain) -> bool {
        self.hosts.iter().any(|bound| bound.matches(host))
    }
}
