//! Signed URLs: whoever has one may do one thing with one path, without the access token.
//!
//! `v1_` and the unpadded standard Base64 of the SHA-256 of
//! `<path>:<operation>:<username>:<token>[:<expiration>]`, with path and user name as in the query.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::token_matches;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error("access token present in header but does not match")]
    WrongToken,
    #[error("missing signature query parameter")]
    Missing,
    #[error("invalid signature")]
    Invalid,
    #[error("signature is already expired")]
    Expired,
}

/// A token in the header decides alone, even when it is wrong; otherwise the signature does.
pub fn check(
    token: &str,
    header: Option<&[u8]>,
    claim: &Claim<'_>,
    signature: Option<&str>,
    now: i64,
) -> Result<(), Denial> {
    if let Some(given) = header {
        return if token_matches(token, given) { Ok(()) } else { Err(Denial::WrongToken) };
    }
    let given = signature.ok_or(Denial::Missing)?;
    let expected = sign(token, claim);
    if !bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
        return Err(Denial::Invalid);
    }
    match claim.expiration {
        Some(expiration) if expiration < now => Err(Denial::Expired),
        _ => Ok(()),
    }
}

/// The signature that gives what `claim` says to whoever has it.
pub fn sign(token: &str, claim: &Claim<'_>) -> String {
    let operation = match claim.operation {
        Operation::Read => "read",
        Operation::Write => "write",
    };
    let mut hash = Sha256::new();
    for part in [claim.path, ":", operation, ":", claim.username, ":", token] {
        hash.update(part);
    }
    if let Some(expiration) = claim.expiration {
        hash.update(format!(":{expiration}"));
    }
    format!("v1_{}", BASE64_STANDARD_NO_PAD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Claim<'static> =
        Claim { path: "/a", operation: Operation::Read, username: "user", expiration: None };

    #[test]
    fn matches_the_hash_that_clients_make() {
        // printf '%s' '/a:read:user:secret' | openssl dgst -sha256 -binary | base64 | tr -d =
        assert_eq!(sign("secret", &READ), "v1_/8nsfhagrrysjWi5ctOoRYzl/ELsT7BUR7ryFIPSIwY");
    }

    #[test]
    fn a_signature_is_good_for_one_thing_only() {
        let good = sign("secret", &READ);
        assert_eq!(check("secret", None, &READ, Some(&good), 0), Ok(()));
        for other in [
            Claim { path: "/b", ..READ },
            Claim { path: "", ..READ },
            Claim { operation: Operation::Write, ..READ },
            Claim { username: "", ..READ },
            Claim { expiration: Some(i64::MAX), ..READ },
        ] {
            assert_eq!(check("secret", None, &other, Some(&good), 0), Err(Denial::Invalid));
        }
        assert_eq!(check("other", None, &READ, Some(&good), 0), Err(Denial::Invalid));
        assert_eq!(check("secret", None, &READ, None, 0), Err(Denial::Missing));
        assert_eq!(check("secret", None, &READ, Some(""), 0), Err(Denial::Invalid));
    }

    #[test]
    fn it_holds_through_its_last_second() {
        let claim = Claim { expiration: Some(100), ..READ };
        let good = sign("secret", &claim);
        assert_eq!(check("secret", None, &claim, Some(&good), 100), Ok(()));
        assert_eq!(check("secret", None, &claim, Some(&good), 101), Err(Denial::Expired));
        let late = Claim { expiration: Some(101), ..READ };
        assert_eq!(check("secret", None, &late, Some(&good), 100), Err(Denial::Invalid));
    }

    #[test]
    fn a_wrong_token_spoils_a_good_signature() {
        let good = sign("secret", &READ);
        let header = Some(&b"wrong"[..]);
        assert_eq!(check("secret", header, &READ, Some(&good), 0), Err(Denial::WrongToken));
        assert_eq!(check("secret", Some(b"secret"), &READ, None, 0), Ok(()));
    }
}
