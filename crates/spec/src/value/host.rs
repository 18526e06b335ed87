//! Host names that lead to a sandbox.

use soulbox_model::network::Domain;

use super::{Parsed, Wrong};

const FORM: &str = "a host name as `app.example.com`";

/// A host name in lower case.
///
/// # Errors
/// For addresses, URLs, ports, patterns and names that are none.
pub fn host_name(text: &str) -> Parsed<String> {
    let bare = bare(text);
    let wrong = |why: &str| {
        let wrong = Wrong::new(why, FORM);
        if bare != text && host_name(bare).is_ok() { wrong.instead(bare) } else { wrong }
    };
    if text.contains("://") {
        return Err(wrong("is a URL"));
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(wrong("is an address, not a name"));
    }
    if text.contains('*') {
        return Err(wrong("is a pattern; each name stands for itself"));
    }
    if text.contains('/') || text.contains(':') {
        return Err(wrong("has a path or a port"));
    }
    if text.is_empty() || text.len() > 253 {
        return Err(wrong("is empty or has more than 253 characters"));
    }
    let name = text.to_ascii_lowercase();
    let good = |label: &str| super::label(label).is_ok();
    if !name.split('.').all(good) {
        return Err(wrong("is not a host name"));
    }
    if name.parse::<Domain>().is_err() {
        return Err(wrong("ends like an address, not like a name"));
    }
    Ok(name)
}

/// `text` without scheme, path, port, and blanks.
pub(crate) fn bare(text: &str) -> &str {
    let text = text.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.split(['/', ':']).next().unwrap_or(text);
    text.trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowered() {
        assert_eq!(host_name("App.Example.com").as_deref(), Ok("app.example.com"));
        assert_eq!(host_name("localhost").as_deref(), Ok("localhost"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            ".",
            "a..b",
            "a.",
            "-a.b",
            "a_b.c",
            "127.0.0.1",
            "::1",
            "1.2.3",
            "a.0x7f",
            "*.a.b",
            "a b",
            "ä.de",
            "a.b:80",
            "http://a.b",
            "a.b/c",
            &format!("{}.com", "a".repeat(300)),
        ] {
            assert!(host_name(bad).is_err(), "{bad}");
        }
        let url = host_name("https://app.example.com/x").unwrap_err();
        assert_eq!(url.instead.as_deref(), Some("app.example.com"));
    }
}
