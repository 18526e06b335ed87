//! Which coding a download gets.

/// How the bytes of a file travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
}

/// The client accepts nothing that can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAcceptable;

/// Chooses by `Accept-Encoding`; with `identity_only` nothing else is possible.
///
/// HTTP libraries offer every coding they can undo, on every request. Compressing costs more than
/// sending on most ways to a sandbox, so gzip is for those who ask for it: it is used when it is the
/// best that the client names and the client names no coding that this server lacks, or forbids
/// to send the bytes as they are.
pub fn choose(accept: Option<&str>, identity_only: bool) -> Result<Coding, NotAcceptable> {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    let mut names_others = false;
    let mut order = Vec::new();
    for item in accept.unwrap_or_default().split(',') {
        let mut parts = item.split(';');
        let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let quality = parts.find_map(quality).unwrap_or(1000);
        let slot = match name.as_str() {
            "" => continue,
            "gzip" | "x-gzip" => &mut gzip,
            "identity" => &mut identity,
            "*" => &mut any,
            _ => {
                names_others |= quality > 0;
                continue;
            }
        };
        if slot.is_none() {
            *slot = Some(quality);
            order.push((name, quality));
        }
    }
    let identity_allowed = match (identity, any) {
        (Some(quality), _) => quality > 0,
        (None, Some(quality)) => quality > 0,
        (None, None) => true,
    };
    if identity_only {
        return if identity_allowed { Ok(Coding::Identity) } else { Err(NotAcceptable) };
    }
    // The first of those with the best quality; `rev` because `max_by_key` returns the last.
    let best = order.iter().rev().filter(|(_, quality)| *quality > 0).max_by_key(|item| item.1);
    let gzip_wanted = match best.map(|(name, _)| name.as_str()) {
        Some("gzip" | "x-gzip") => true,
        Some("*") => !identity_allowed && gzip != Some(0),
        _ => false,
    };
    match (gzip_wanted, identity_allowed) {
        (true, true) if names_others => Ok(Coding::Identity),
        (true, _) => Ok(Coding::Gzip),
        (false, true) => Ok(Coding::Identity),
        (false, false) => Err(NotAcceptable),
    }
}

/// Thousandths; what does not parse counts as 0.
fn quality(parameter: &str) -> Option<u16> {
    let (key, value) = parameter.split_once('=')?;
    if !key.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value: f32 = value.trim().parse().unwrap_or(0.0);
    Some((value.clamp(0.0, 1.0) * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_qualities() {
        use Coding::{Gzip, Identity};
        for (accept, expected) in [
            ("", Ok(Identity)),
            ("gzip", Ok(Gzip)),
            ("GZIP;q=0.5", Ok(Gzip)),
            ("x-gzip", Ok(Gzip)),
            ("gzip;q=0", Ok(Identity)),
            ("identity", Ok(Identity)),
            ("identity, gzip", Ok(Identity)),
            ("gzip, identity", Ok(Gzip)),
            ("identity;q=0.5, gzip;q=0.4", Ok(Identity)),
            ("gzip;q=1.0, identity;q=0.5, *;q=0", Ok(Gzip)),
            ("gzip, deflate", Ok(Identity)),
            ("gzip, deflate, br, zstd", Ok(Identity)),
            ("gzip, deflate;q=0", Ok(Gzip)),
            ("gzip, br, identity;q=0", Ok(Gzip)),
            ("br", Ok(Identity)),
            ("*", Ok(Identity)),
            ("*, identity;q=0", Ok(Gzip)),
            ("*, identity;q=0, gzip;q=0", Err(NotAcceptable)),
            ("*;q=0", Err(NotAcceptable)),
            ("identity;q=0", Err(NotAcceptable)),
            ("br, identity;q=0", Err(NotAcceptable)),
            ("gzip, *;q=0", Ok(Gzip)),
            ("gzip;q=nonsense", Ok(Identity)),
        ] {
            assert_eq!(choose(Some(accept), false), expected, "{accept}");
        }
        assert_eq!(choose(None, false), Ok(Identity));
    }

    #[test]
    fn a_part_of_a_file_is_never_compressed() {
        assert_eq!(choose(Some("gzip"), true), Ok(Coding::Identity));
        assert_eq!(choose(Some("gzip, *;q=0"), true), Err(NotAcceptable));
        assert_eq!(choose(Some("identity;q=0, gzip"), true), Err(NotAcceptable));
    }
}
