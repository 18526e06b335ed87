//! Names of things. Each type can only hold a valid value.

use std::{fmt, num::NonZeroU16, str::FromStr};

use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a valid {kind}: expected {expected}")]
pub struct InvalidId {
    pub kind: &'static str,
    pub given: String,
    pub expected: &'static str,
}

impl InvalidId {
    fn new(kind: &'static str, given: &str, expected: &'static str) -> Self {
        Self { kind, given: given.chars().take(80).collect(), expected }
    }
}

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

pub(crate) fn random_text(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

macro_rules! text_id {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                value.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

/// A sandbox: `i` and 20 characters of `a-z0-9`; a DNS label, so it can stand in a host name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxId(String);
text_id!(SandboxId);

impl SandboxId {
    /// About 103 bits of randomness.
    pub fn random() -> Self {
        Self(format!("i{}", random_text(20)))
    }
}

impl FromStr for SandboxId {
    type Err = InvalidId;

    /// Also accepts the form `<id>-<client id>` that older clients build from `clientID`.
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let id = s.split_once('-').map_or(s, |(id, _)| id);
        let valid = id.len() == 21
            && id.starts_with('i')
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if valid {
            Ok(Self(id.to_owned()))
        } else {
            Err(InvalidId::new("sandbox id", s, "`i` followed by 20 of a-z and 0-9"))
        }
    }
}

/// A template: 20 characters of `a-z0-9`, or the fixed id of a built-in one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateId(String);
text_id!(TemplateId);

impl TemplateId {
    pub fn random() -> Self {
        Self(random_text(20))
    }
}

impl FromStr for TemplateId {
    type Err = InvalidId;

    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let valid = (1..=63).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !s.starts_with('-')
            && !s.ends_with('-');
        if valid {
            Ok(Self(s.to_owned()))
        } else {
            Err(InvalidId::new("template id", s, "1 to 63 of a-z, 0-9 and -, no - at either end"))
        }
    }
}

/// A stored secret: `sec_` and 20 characters of `a-z0-9`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretId(String);
text_id!(SecretId);

impl SecretId {
    /// What every id begins with, and no name of a secret.
    pub const PREFIX: &str = "sec_";

    pub fn random() -> Self {
        Self(format!("{}{}", Self::PREFIX, random_text(20)))
    }
}

impl FromStr for SecretId {
    type Err = InvalidId;

    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        match s.strip_prefix(Self::PREFIX) {
            Some(rest) if rest.len() == 20 && rest.bytes().all(plain) => Ok(Self(s.to_owned())),
            _ => Err(InvalidId::new("secret id", s, "`sec_` followed by 20 of a-z and 0-9")),
        }
    }
}

/// A team: what API keys and sandboxes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TeamId(pub uuid::Uuid);

impl TeamId {
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl fmt::Display for TeamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TeamId {
    type Err = InvalidId;

    fn from_str(s: &str) -> Result<Self, InvalidId> {
        s.parse().map(Self).map_err(|_| InvalidId::new("team id", s, "a UUID"))
    }
}

/// A TCP port inside a sandbox, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// Where the agent listens: 49983.
    pub const AGENT: Self = match NonZeroU16::new(49983) {
        Some(port) => Self(port),
        None => unreachable!(),
    };

    pub fn new(port: u16) -> Option<Self> {
        NonZeroU16::new(port).map(Self)
    }

    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Port {
    type Err = InvalidId;

    /// Decimal digits only: no sign, no blanks, no leading zero.
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let plain = !s.is_empty() && !s.starts_with('0') && s.bytes().all(|b| b.is_ascii_digit());
        s.parse()
            .ok()
            .filter(|_| plain)
            .and_then(Self::new)
            .ok_or_else(|| InvalidId::new("port", s, "a number from 1 to 65535"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_sandbox_id_parses_back() {
        let id = SandboxId::random();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_eq!(format!("{id}-6532622b").parse(), Ok(id));
    }

    #[test]
    fn what_is_no_sandbox_id_is_refused() {
        for bad in ["", "i", "../../etc/passwd", "iABCDEFGHIJKLMNOPQRST", "i0123456789012345678é"]
        {
            assert!(bad.parse::<SandboxId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_is_plain_decimal() {
        assert_eq!("8080".parse::<Port>().map(Port::get), Ok(8080));
        for bad in ["", "0", "+80", "080", "65536", "8 0", "-1"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }
}
