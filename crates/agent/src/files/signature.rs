//! Whether a signed link opens what it is used for.

use subtle::ConstantTimeEq;

pub use soulbox_wire::signature::{Claim, Operation, sign};

use crate::auth::token_matches;

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

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Claim<'static> =
        Claim { path: "/a", operation: Operation::Read, username: "user", expiration: None };

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
