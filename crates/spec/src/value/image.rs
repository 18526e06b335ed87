//! What a template is made from.

use super::{Parsed, Wrong};

const FORM: &str = "a template of this server as `base`, or an image as `python:3.11-slim`";
const MAX: usize = 512;

/// `template.base_image`: a template of this server, or an image of a registry.
///
/// A single word is a template; what has a tag, a digest, a registry or a path is an image, unless a
/// template of the server has just that name, which only the server can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseImage {
    Template(String),
    /// A reference as container tools write it.
    Image(String),
}

impl BaseImage {
    /// As the file has it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Template(text) | Self::Image(text) => text,
        }
    }

    /// # Errors
    /// For what is neither.
    pub fn parse(text: &str) -> Parsed<Self> {
        if text.is_empty() {
            return Err(Wrong::new("is empty", FORM));
        }
        if text.len() > MAX {
            return Err(Wrong::new(format!("has more than {MAX} characters"), FORM));
        }
        if let Some((at, found)) = text.char_indices().find(|(_, c)| {
            !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-' | '/' | ':' | '@')
        }) {
            let wrong = Wrong::new("holds what no name of an image has", FORM)
                .at(at..at + found.len_utf8());
            let trimmed = text.trim();
            let near = trimmed != text && Self::parse(trimmed).is_ok();
            return Err(if near { wrong.instead(trimmed) } else { wrong });
        }
        if !text.contains(['/', ':', '@']) {
            return component(text, 0).map(|()| Self::Template(text.to_owned()));
        }
        reference(text).map(|()| Self::Image(text.to_owned()))
    }
}

/// `[registry[:port]/]path[:tag][@sha256:…]`.
fn reference(text: &str) -> Parsed<()> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !good {
            let expected = "sha256: and 64 hexadecimal digits in lower case after the @";
            return Err(Wrong::new("has a wrong digest", expected).at(named.len()..text.len()));
        }
    }
    let slash = named.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match named[slash..].find(':') {
        Some(at) => (&named[..slash + at], Some(slash + at + 1)),
        None => (named, None),
    };
    if let Some(at) = tag {
        let tag = &named[at..];
        let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let rest = |b: u8| first(b) || b == b'.' || b == b'-';
        let good =
            tag.len() <= 128 && tag.bytes().next().is_some_and(first) && tag.bytes().all(rest);
        if !good {
            let expected = "1 to 128 letters, digits, _, . and - after the colon";
            return Err(Wrong::new("has a wrong tag", expected).at(at - 1..named.len()));
        }
    }
    let mut at = 0;
    for (index, part) in path.split('/').enumerate() {
        let registry = index == 0 && path.contains('/') && part.contains(['.', ':']);
        let local = index == 0 && path.contains('/') && part == "localhost";
        if !(registry || local) {
            component(part, at)?;
        } else if let Some((host, port)) = part.split_once(':')
            && (host.is_empty() || port.parse::<u16>().is_err())
        {
            let expected = "a host name, or one with a port as `registry.example:5000`";
            return Err(Wrong::new("has a wrong registry", expected).at(at..at + part.len()));
        }
        at += part.len() + 1;
    }
    Ok(())
}

fn component(part: &str, at: usize) -> Parsed<()> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if part.bytes().all(good) && edge(part.bytes().next()) && edge(part.bytes().last()) {
        return Ok(());
    }
    let wrong = Wrong::new("has a wrong part", "a-z, 0-9, and -, _ and . between them");
    let wrong = wrong.at(at..at + part.len());
    let lower = part.to_ascii_lowercase();
    Err(if lower != part && at == 0 && component(&lower, 0).is_ok() {
        wrong.instead(lower)
    } else {
        wrong
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_templates_and_references_images() {
        let digest = format!("registry/x@sha256:{}", "0a".repeat(32));
        for image in [
            "python:3.11-slim",
            &digest,
            "ghcr.io/a/b_c:v1",
            "localhost:5000/x",
            "localhost/x",
            "a/b",
        ] {
            assert_eq!(BaseImage::parse(image), Ok(BaseImage::Image(image.to_owned())));
        }
        for template in ["base", "host", "runtime-deno", "my_template"] {
            assert_eq!(BaseImage::parse(template), Ok(BaseImage::Template(template.to_owned())));
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for bad in [
            "",
            " base",
            "Base",
            "a b",
            "python:",
            ":3",
            "x@sha256:12",
            "x@md5:aa",
            "a//b",
            "/a",
            "a/",
            "-a",
            "reg:port/x",
            "x:ta/g:",
            "ü",
            "a:b:c",
            &"a".repeat(600),
            "$(id)",
            "a\nb",
        ] {
            assert!(BaseImage::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(BaseImage::parse("Base").unwrap_err().instead.as_deref(), Some("base"));
        assert_eq!(BaseImage::parse("base ").unwrap_err().instead.as_deref(), Some("base"));
    }
}
