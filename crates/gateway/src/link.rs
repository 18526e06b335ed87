//! Signed links to files at the shared address: the signature is all that tells which sandbox they are of.
//!
//! Clients that reach every sandbox at one address make such links, without a word on the sandbox in
//! them. Only its access token makes this signature, so it is found by trying. The agent checks
//! the link then, as it does any.

use http::{Method, request::Parts};
use percent_encoding::percent_decode_str;
use soulbox_wire::signature::{Claim, Operation, Signer};

/// What the query of a request for `/files` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    signature: String,
    operation: Operation,
    path: String,
    username: String,
    expiration: Option<i64>,
}

impl Link {
    /// `None` if the request is for something else. Of a repeated parameter the first counts, as for the agent.
    pub fn of(parts: &Parts) -> Option<Self> {
        let operation = match parts.method {
            Method::GET => Operation::Read,
            Method::POST => Operation::Write,
            _ => return None,
        };
        if parts.uri.path() != "/files" {
            return None;
        }
        let query = parts.uri.query().unwrap_or_default();
        let value = |name: &str| {
            let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            let (_, value) = pairs.find(|(key, _)| *key == name)?;
            let value = value.replace('+', " ");
            Some(percent_decode_str(&value).decode_utf8_lossy().into_owned())
        };
        Some(Self {
            signature: value("signature").unwrap_or_default(),
            operation,
            path: value("path").unwrap_or_default(),
            username: value("username").unwrap_or_default(),
            expiration: value("signature_expiration").and_then(|text| text.parse().ok()),
        })
    }

    pub fn is_signed(&self) -> bool {
        !self.signature.is_empty()
    }

    /// Whether a token made the signature.
    pub fn test(&self) -> impl Fn(&str) -> bool {
        let signer = Signer::new(&Claim {
            path: &self.path,
            operation: self.operation,
            username: &self.username,
            expiration: self.expiration,
        });
        // An answer in less time tells a stranger nothing: whoever lacks the token can't choose the hash.
        move |token| signer.sign(token) == self.signature
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use soulbox_wire::signature::sign;

    use super::*;

    fn link(method: Method, uri: &str) -> Option<Link> {
        let (parts, ()) = Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
        Link::of(&parts)
    }

    #[test]
    fn a_link_fits_the_token_that_made_it() {
        let claim = Claim {
            path: "/a b+\u{e4}",
            operation: Operation::Read,
            username: "user",
            expiration: Some(9),
        };
        let signature = sign("secret", &claim).replace('+', "%2B");
        let uri = format!(
            "/files?path=%2Fa+b%2B%C3%A4&username=user&signature={signature}&signature_expiration=9"
        );
        let read = link(Method::GET, &uri).unwrap();
        assert!(read.test()("secret"));
        assert!(!read.test()("other"));
        assert!(!link(Method::POST, &uri).unwrap().test()("secret"), "made for reading");
        let later = link(Method::GET, &uri.replace("expiration=9", "expiration=10")).unwrap();
        assert!(!later.test()("secret"));
        assert!(!link(Method::GET, "/files?path=/a").unwrap().test()("secret"));
    }

    #[test]
    fn only_files_are_linked_to() {
        assert_eq!(link(Method::DELETE, "/files?signature=x"), None);
        assert_eq!(link(Method::GET, "/files/compose?signature=x"), None);
        assert_eq!(link(Method::GET, "/sandboxes?signature=x"), None);
    }
}
