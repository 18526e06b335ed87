//! What a rule puts into a request.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use soulbox_model::network::{Piece, Placeholder, Transform};

use super::{
    placeholders::{PORT, To},
    scrub::Scrub,
};
use crate::secrets::Secrets;

/// Sets the headers of `transform`; what must not come back is added to `scrub`.
///
/// # Errors
/// Why the request must not be sent, without any value in it.
pub(super) async fn set(
    secrets: &Secrets,
    transform: &Transform,
    to: &To<'_>,
    headers: &mut HeaderMap,
    scrub: &mut Scrub,
) -> Result<(), String> {
    let host = to.host;
    for (name, template) in transform.headers() {
        let mut text = zeroize::Zeroizing::new(String::new());
        for piece in template.pieces() {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Placeholder(Placeholder::Secret(_)) if !to.takes_secrets() => {
                    return Err(format!(
                        "the rule for {host} sets a secret, which only leaves over TLS at port {PORT}; \
                         use https://{host}"
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
        let alike: Vec<_> =
            headers.keys().filter(|other| are_alike(other, &name)).cloned().collect();
        for other in alike {
            headers.remove(other);
        }
        headers.insert(name, value);
    }
    Ok(())
}

/// Whether some server takes one name for the other: interfaces that make variables of headers keep no
/// more than letters and digits apart.
fn are_alike(one: &HeaderName, other: &HeaderName) -> bool {
    let folded = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
    one.as_str().bytes().map(folded).eq(other.as_str().bytes().map(folded))
}

/// Asks for an answer that can be searched.
pub(super) fn ask_plain(headers: &mut HeaderMap) {
    // What comes back encoded could not be.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // Parts could be cut in the middle of a value.
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_server_may_take_for_each_other() {
        for (other, alike) in [
            ("x_team", true),
            ("x.team", true),
            ("x-team", true),
            ("xteam", false),
            ("x-teams", false),
        ] {
            let names = ["x-team", other].map(|name| name.parse::<HeaderName>().unwrap());
            assert_eq!(are_alike(&names[1], &names[0]), alike, "{other}");
        }
    }
}
