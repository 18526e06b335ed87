//! Headers that the proxy sets, and the secrets that they may name.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Headers of one domain, at most.
const MAX_HEADERS: usize = 20;
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 2048;
/// Placeholders in the headers of one domain, at most.
const MAX_PLACEHOLDERS: usize = 32;

const SECRETS: &str = "e2b.secrets.";

/// What frames a message or belongs to one connection: a transform of it would let a request mean
/// one thing here and another at the host.
const NOT_THESE: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// 1 to 64 bytes, in lower case; none that frames a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(String);

impl HeaderName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(MAX_NAME).collect();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !(1..=MAX_NAME).contains(&text.len()) || !text.bytes().all(token) {
            return Err(format!("`{shown}` is no header name of 1 to {MAX_NAME} characters"));
        }
        let lower = text.to_ascii_lowercase();
        if NOT_THESE.contains(&lower.as_str()) {
            return Err(format!("`{lower}` frames the message and can't be set"));
        }
        Ok(Self(lower))
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::by_text!(HeaderName);

/// 1 to 128 of a-z, 0-9, - and _.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

impl SecretName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (1..=128).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err("the name of a secret is 1 to 128 of a-z, 0-9, - and _".to_owned())
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::by_text!(SecretName);

/// What is put in at the moment of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placeholder {
    Secret(SecretName),
}

/// A part of a header value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Placeholder(Placeholder),
}

/// A header value with placeholders: at most 2048 bytes, without line breaks or NUL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

impl Template {
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Placeholder(placeholder) => Some(placeholder),
        })
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_VALUE {
            return Err(format!("a header value has at most {MAX_VALUE} bytes"));
        }
        if text.bytes().any(|b| b != b'\t' && b.is_ascii_control()) {
            return Err("a header value has no control characters".to_owned());
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${e2b.") {
            let (inside, behind) = after
                .split_once('}')
                .ok_or_else(|| "a placeholder in a header value lacks its }".to_owned())?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Placeholder(placeholder(inside)?));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }
}

fn placeholder(inside: &str) -> Result<Placeholder, String> {
    let prefix = SECRETS.trim_start_matches("e2b.");
    if let Some(name) = inside.strip_prefix(prefix) {
        return name.parse().map(Placeholder::Secret);
    }
    if inside.starts_with("identity.tokens.") {
        return Err("a placeholder names an identity token that `iam` does not define".to_owned());
    }
    Err(format!("a placeholder is ${{{SECRETS}NAME}}"))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

super::by_text!(Template);

/// The headers of one domain: at most 20, with at most 32 placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<HeaderName, Template>", into = "BTreeMap<HeaderName, Template>")]
pub struct Transform(BTreeMap<HeaderName, Template>);

impl Transform {
    pub fn headers(&self) -> &BTreeMap<HeaderName, Template> {
        &self.0
    }
}

impl TryFrom<BTreeMap<HeaderName, Template>> for Transform {
    type Error = String;

    fn try_from(headers: BTreeMap<HeaderName, Template>) -> Result<Self, String> {
        if headers.len() > MAX_HEADERS {
            return Err(format!("a domain has at most {MAX_HEADERS} headers"));
        }
        let placeholders: usize = headers.values().map(|value| value.placeholders().count()).sum();
        if placeholders > MAX_PLACEHOLDERS {
            return Err(format!("a domain has at most {MAX_PLACEHOLDERS} placeholders"));
        }
        Ok(Self(headers))
    }
}

impl From<Transform> for BTreeMap<HeaderName, Template> {
    fn from(transform: Transform) -> Self {
        transform.0
    }
}
