//! Signed links to files: whoever has one may do one thing with one path of one sandbox.
//!
//! `v1_` and the unpadded standard Base64 of the SHA-256 of
//! `<path>:<operation>:<username>:<token>[:<expiration>]`, with path and user name as in the query.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
}

/// What a signature is for.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub path: &'a str,
    pub operation: Operation,
    pub username: &'a str,
    /// Seconds since 1970.
    pub expiration: Option<i64>,
}

/// Signs one claim with any number of tokens; what comes before the token is hashed once.
#[derive(Debug, Clone)]
pub struct Signer {
    before: Sha256,
    after: String,
}

impl Signer {
    pub fn new(claim: &Claim<'_>) -> Self {
        let operation = match claim.operation {
            Operation::Read => "read",
            Operation::Write => "write",
        };
        let mut before = Sha256::new();
        for part in [claim.path, ":", operation, ":", claim.username, ":"] {
            before.update(part);
        }
        let after = claim.expiration.map(|time| format!(":{time}")).unwrap_or_default();
        Self { before, after }
    }

    /// The signature that gives what the claim says to whoever has it.
    pub fn sign(&self, token: &str) -> String {
        let mut hash = self.before.clone();
        hash.update(token);
        hash.update(&self.after);
        format!("v1_{}", BASE64_STANDARD_NO_PAD.encode(hash.finalize()))
    }
}

/// One signature of one claim.
pub fn sign(token: &str, claim: &Claim<'_>) -> String {
    Signer::new(claim).sign(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_hash_that_clients_make() {
        let read =
            Claim { path: "/a", operation: Operation::Read, username: "user", expiration: None };
        // printf '%s' '/a:read:user:secret' | openssl dgst -sha256 -binary | base64 | tr -d =
        assert_eq!(sign("secret", &read), "v1_/8nsfhagrrysjWi5ctOoRYzl/ELsT7BUR7ryFIPSIwY");
    }

    #[test]
    fn a_signer_signs_each_token_as_if_it_were_the_first() {
        let claim =
            Claim { path: "/a", operation: Operation::Write, username: "", expiration: Some(7) };
        let signer = Signer::new(&claim);
        assert_eq!(signer.sign("one"), sign("one", &claim));
        assert_eq!(signer.sign("two"), sign("two", &claim));
        assert_ne!(sign("one", &claim), sign("two", &claim));
    }
}
