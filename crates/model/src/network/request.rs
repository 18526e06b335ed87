//! Which requests a host may get, and how many.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Domain, Pattern};

const MAX_RULE: usize = 1024;
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Requests of one host in a minute, at most.
const MAX_RATE: u32 = 1_000_000;

/// `GET,POST api.example.com/v1/*`: methods (`*` for any), a host or `*.domain`, and a path, which a
/// final `*` continues; without a path any.
///
/// Once a rule names a host, it gets only what some rule allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestRule {
    /// Empty means any.
    methods: Vec<String>,
    host: Pattern,
    /// Begins with `/`.
    path: String,
}

impl RequestRule {
    /// Who it is for.
    pub fn host(&self) -> &Pattern {
        &self.host
    }

    pub fn is_for(&self, host: &Domain) -> bool {
        self.host.matches(host)
    }

    /// `path` is without the query.
    pub fn allows(&self, method: &str, path: &str) -> bool {
        let method = self.methods.is_empty() || self.methods.iter().any(|known| known == method);
        method
            && match self.path.strip_suffix('*') {
                Some(front) => path.starts_with(front),
                None => path == self.path,
            }
    }
}

/// Whether every reader finds the same path in `path`: no dot segments, empty segments or encoded
/// separators, which some servers undo after a rule looked.
pub fn is_plain_path(path: &str) -> bool {
    let encoded = |segment: &str| {
        let lower = segment.to_ascii_lowercase();
        ["%2e", "%2f", "%5c", "%00", "%25"].iter().any(|part| lower.contains(part))
    };
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let bare = segment.split(';').next().unwrap_or_default();
        if bare == "." || bare == ".." || (bare.is_empty() && !(last && segment.is_empty())) {
            return false;
        }
        if segment.contains('\\') || encoded(segment) {
            return false;
        }
    }
    path.starts_with('/')
}

impl FromStr for RequestRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(64).collect();
        let bad = |why: &str| format!("`{shown}` is no request rule: {why}");
        if text.len() > MAX_RULE {
            return Err(bad(&format!("at most {MAX_RULE} bytes fit")));
        }
        let (methods, target) = text
            .trim()
            .split_once(' ')
            .ok_or_else(|| bad("write `METHOD host/path`, as in `GET api.example.com/v1/*`"))?;
        let methods = match methods {
            "*" => Vec::new(),
            list => list
                .split(',')
                .map(|method| {
                    let method = method.to_ascii_uppercase();
                    let known = METHODS.contains(&method.as_str());
                    known.then_some(method).ok_or_else(|| {
                        bad(&format!("methods are `*`, or {} with commas", METHODS.join(", ")))
                    })
                })
                .collect::<Result<_, _>>()?,
        };
        let target = target.trim();
        let (host, path) = match target.find('/') {
            Some(at) => target.split_at(at),
            None => (target, "/*"),
        };
        let host: Pattern = host.parse().map_err(|why: String| bad(&why))?;
        let front = path.strip_suffix('*').unwrap_or(path);
        if front.contains('*') || front.contains(['?', '#']) || !is_plain_path(front) {
            return Err(bad("a path is plain, without a query, and `*` stands at its end alone"));
        }
        Ok(Self { methods, host, path: path.to_owned() })
    }
}

impl fmt::Display for RequestRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = if self.methods.is_empty() { "*".to_owned() } else { self.methods.join(",") };
        write!(f, "{methods} {}{}", self.host, self.path)
    }
}

super::by_text!(RequestRule);

/// How many requests a host may get in a minute: 1 to 1,000,000, as many of them at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRate {
    pub host: Pattern,
    pub per_minute: u32,
}

impl RequestRate {
    /// # Errors
    /// In words, for a rate out of range.
    pub fn new(host: Pattern, per_minute: u32) -> Result<Self, String> {
        if (1..=MAX_RATE).contains(&per_minute) {
            Ok(Self { host, per_minute })
        } else {
            Err(format!("1 to {MAX_RATE} requests a minute can be allowed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> RequestRule {
        text.parse().unwrap()
    }

    #[test]
    fn rules_come_back_as_they_were_written() {
        for text in ["GET api.example.com/v1/*", "GET,POST *.example.com/*", "* a.b/exact"] {
            assert_eq!(rule(text).to_string(), text);
        }
        assert_eq!(rule("get a.b").to_string(), "GET a.b/*");
    }

    #[test]
    fn methods_and_paths_are_matched_whole() {
        let some = rule("GET,POST api.example.com/v1/*");
        for (method, path, allowed) in [
            ("GET", "/v1/x", true),
            ("POST", "/v1/", true),
            ("PUT", "/v1/x", false),
            ("get", "/v1/x", false),
            ("GET", "/v1", false),
            ("GET", "/v2/x", false),
        ] {
            assert_eq!(some.allows(method, path), allowed, "{method} {path}");
        }
        assert!(rule("* a.b/one").allows("DELETE", "/one"));
        assert!(!rule("* a.b/one").allows("DELETE", "/one/two"));
    }

    #[test]
    fn what_two_servers_could_read_differently_is_not_plain() {
        for path in ["/", "/a", "/a/b.c/", "/a;v=1", "/%20", "/..a"] {
            assert!(is_plain_path(path), "{path}");
        }
        for path in [
            "",
            "a",
            "/..",
            "/a/../b",
            "/a/./b",
            "//a",
            "/a//b",
            "/..;x/b",
            "/%2e%2E/a",
            "/a%2fb",
            "/a\\b",
            "/%252e/",
            "/;/a",
        ] {
            assert!(!is_plain_path(path), "{path}");
        }
    }

    #[test]
    fn bad_rules_say_what_is_wrong() {
        for (text, said) in [
            ("GET", "METHOD host/path"),
            ("FETCH a.b/", "methods are"),
            ("GET a b/", "no domain"),
            ("GET a.b/*/c", "`*` stands at its end"),
            ("GET a.b/../c", "plain"),
            ("GET a.b/?q", "query"),
        ] {
            let error = text.parse::<RequestRule>().unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
