//! API keys: made here, kept only as a hash.

use std::fmt;

use chrono::{DateTime, Utc};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use soulbox_model::TeamId;
use uuid::Uuid;

/// What every API key starts with.
pub const KEY_PREFIX: &str = "e2b_";

const KEY_BYTES: usize = 20;

/// What may be shown of a key after it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// [`KEY_PREFIX`].
    pub prefix: String,
    /// Characters after the prefix.
    pub value_length: u32,
    /// The first two of them.
    pub masked_value_prefix: String,
    /// The last four of them.
    pub masked_value_suffix: String,
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}…{}", self.prefix, self.masked_value_prefix, self.masked_value_suffix)
    }
}

/// An API key as it is known after it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: Uuid,
    pub team: TeamId,
    pub name: String,
    pub mask: Mask,
    pub created_at: DateTime<Utc>,
    /// Who made it, where that is known.
    pub created_by: Option<String>,
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A key just made: the only moment at which its plain form exists.
#[derive(Clone)]
pub struct NewKey {
    pub key: ApiKey,
    /// `e2b_` and 40 hexadecimal digits.
    pub plain: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// SHA-256 of the bytes that a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a plain key; `None` if `plain` has not the form of a key.
    pub fn of(plain: &str) -> Option<Self> {
        let digits = plain.strip_prefix(KEY_PREFIX)?;
        if digits.len() != 2 * KEY_BYTES || digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let bytes = hex::decode(digits).ok()?;
        Some(Self(Sha256::digest(bytes).into()))
    }

    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

/// A fresh random key: its plain form, hash and mask.
pub(crate) fn generate() -> (String, KeyHash, Mask) {
    let mut bytes = [0u8; KEY_BYTES];
    rand::rng().fill(&mut bytes);
    let digits = hex::encode(bytes);
    let mask = Mask {
        prefix: KEY_PREFIX.to_owned(),
        value_length: 2 * KEY_BYTES as u32,
        masked_value_prefix: digits[..2].to_owned(),
        masked_value_suffix: digits[digits.len() - 4..].to_owned(),
    };
    (format!("{KEY_PREFIX}{digits}"), KeyHash(Sha256::digest(bytes).into()), mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_hashes_to_what_is_stored_for_it() {
        let (plain, hash, mask) = generate();
        assert_eq!(KeyHash::of(&plain), Some(hash));
        assert!(plain.starts_with(&format!("e2b_{}", mask.masked_value_prefix)));
        assert!(plain.ends_with(&mask.masked_value_suffix));
        assert_eq!(plain.len(), 44);
    }

    #[test]
    fn what_is_no_key_has_no_hash() {
        let (plain, ..) = generate();
        let upper = plain.to_uppercase();
        for bad in [
            "",
            "e2b_",
            "e2b_00",
            &plain[4..],
            &format!("{plain}00"),
            &format!("{plain}\n"),
            &upper,
        ] {
            assert_eq!(KeyHash::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_plain_form_is_not_in_the_debug_output() {
        let (plain, _, mask) = generate();
        let key = ApiKey {
            id: Uuid::nil(),
            team: TeamId(Uuid::nil()),
            name: "n".into(),
            mask,
            created_at: DateTime::UNIX_EPOCH,
            created_by: None,
            last_used_at: None,
        };
        let shown = format!("{:?}", NewKey { key, plain: plain.clone() });
        assert!(!shown.contains(&plain[4..]), "{shown}");
    }
}
