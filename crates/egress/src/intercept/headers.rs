//! What a rule puts into a request.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use soulbox_model::network::{Domain, Piece, Placeholder, Transform};

use super::scrub::Scrub;
use crate::secrets::Secrets;

/// Sets the headers of `transform`; what must not come back is added to `scrub`.
///
/// # Errors
/// Why the request must not be sent, without any value in it.
pub(super) async fn set(
    secrets: &Secrets,
    transform: &Transform,
    host: &Domain,
    sealed: bool,
    headers: &mut HeaderMap,
    scrub: &mut Scrub,
) -> Result<(), String> {
    for (name, template) in transform.headers() {
        let mut text = zeroize::Zeroizing::new(String::new());
        for piece in template.pieces() {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Placeholder(Placeholder::Secret(_)) if !sealed => {
                    return Err(format!(
                        "the rule for {host} sets a secret, which only leaves over TLS; use https"
                    ));
                }
                Piece::Placeholder(Placeholder::Secret(secret)) => {
                    let held = secrets.for_host(secret, host).await?;
                    let Some(plain) = held.value.as_header() else {
                        return Err(format!("secret `{secret}` does not fit into a header"));
                    };
                    text.push_str(plain);
                    scrub.add(held.value.clone());
                }
            }
        }
        let name: HeaderName =
            name.as_str().parse().map_err(|_| format!("`{name}` is no header"))?;
        let mut value = HeaderValue::from_bytes(text.as_bytes())
            .map_err(|_| format!("the value of `{name}` does not fit into a header"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(())
}

/// Asks for an answer that can be searched.
pub(super) fn ask_plain(headers: &mut HeaderMap) {
    // What comes back encoded could not be.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // Parts could be cut in the middle of a value.
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
}
