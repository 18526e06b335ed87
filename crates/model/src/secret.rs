//! Values that nobody may see.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// The text of a secret: 1 byte to 64 KiB, without NUL; wiped from memory when dropped.
///
/// What shows values (`Debug`, serialization) shows a placeholder instead, so that no log, answer
/// or file gets it by accident; [`SecretValue::expose`] is the one way to it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<String>);

const SHOWN: &str = "[redacted]";

impl SecretValue {
    /// The longest, in bytes.
    pub const MAX: usize = 64 * 1024;

    /// # Errors
    /// In words that do not hold the text.
    pub fn new(text: String) -> Result<Self, String> {
        let text = Zeroizing::new(text);
        if text.is_empty() || text.len() > Self::MAX {
            return Err(format!("must have 1 to {} bytes", Self::MAX));
        }
        if text.contains('\0') {
            return Err("must not hold NUL".to_owned());
        }
        Ok(Self(text))
    }

    /// The text itself, for the one place that it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text as a header may carry it; `None` where a line break or another control character
    /// would let it mean more than a value.
    pub fn as_header(&self) -> Option<&str> {
        let plain = |b: u8| b == b'\t' || !b.is_ascii_control();
        self.0.bytes().all(plain).then_some(&**self.0)
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

impl Serialize for SecretValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(SHOWN)
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        // Serde's own message about a wrong type quotes what it found.
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Self::new(text).map_err(D::Error::custom),
            _ => Err(D::Error::custom("must be a string")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.to_owned()).unwrap()
    }

    #[test]
    fn what_shows_values_does_not_show_this() {
        let shown =
            format!("{0:?} {0:#?} {1}", value("hunter2"), serde_json::json!(value("hunter2")));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(value("hunter2").expose(), "hunter2");
    }

    #[test]
    fn refusals_do_not_quote() {
        for json in ["12345678", "[\"hunter2\"]", "{\"hunter2\":1}", "true"] {
            let error = serde_json::from_str::<SecretValue>(json).unwrap_err().to_string();
            assert!(error.starts_with("must be a string"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("1234"), "{error}");
        }
        for bad in [String::new(), "a\0b".into(), "x".repeat(SecretValue::MAX + 1)] {
            assert!(SecretValue::new(bad).is_err());
        }
        assert!(SecretValue::new("x".repeat(SecretValue::MAX)).is_ok());
    }

    #[test]
    fn a_header_takes_no_line_breaks() {
        assert_eq!(value("Bearer a b\tc é").as_header(), Some("Bearer a b\tc é"));
        for bad in ["a\r\nX: y", "a\n", "\r", "\x1b[0m", "\x7f"] {
            assert_eq!(value(bad).as_header(), None, "{bad:?}");
        }
    }
}
