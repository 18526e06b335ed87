//! Tokens of pages: where a list goes on, in the one form that this server writes.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use soulbox_model::Error;

/// The token for a place that is written so.
pub(crate) fn to_token(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// The place that `read` finds in a token of at most `longest` bytes, if `write` gives that token
/// back: no other spelling of the same place.
pub(crate) fn from_token<T>(
    token: &str,
    longest: usize,
    read: impl FnOnce(&str) -> Option<T>,
    write: impl FnOnce(&T) -> String,
) -> Option<T> {
    if token.len() > longest {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    read(&text).filter(|place| write(place) == token)
}

pub(crate) fn not_ours() -> Error {
    Error::invalid("nextToken", "is not a token of this list")
}
