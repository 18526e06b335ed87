//! Ids in paths. Each segment arrives percent-encoded and is decoded after the route matched.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use soulbox_model::{Error, SandboxId};

use crate::App;
use crate::problem::{Problem, Result};

/// The `{sandboxID}` of a path.
#[derive(Debug)]
pub struct SandboxPath(pub SandboxId);

/// The only variable segment of a path, as text of 1 to 256 bytes.
#[derive(Debug)]
pub struct Segment(pub String);

const MAX_SEGMENT: usize = 256;

impl FromRequestParts<App> for SandboxPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Segment(text) = Segment::from_request_parts(parts, app).await?;
        sandbox_id(&text).map(Self)
    }
}

impl FromRequestParts<App> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Path(text) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::invalid("path", "not valid percent-encoded UTF-8"))?;
        if text.is_empty() || text.len() > MAX_SEGMENT {
            return Err(Problem::invalid("path", "a segment must have 1 to 256 bytes"));
        }
        Ok(Self(text))
    }
}

/// `<id>` or `<id>-<client id>`.
///
/// # Errors
/// 400 for what can't be an id of any server, 404 for what is merely none of this one: clients take
/// a 404 as "already gone".
pub fn sandbox_id(text: &str) -> Result<SandboxId> {
    let mut parts = text.split('-');
    let id = parts.next().unwrap_or_default();
    let client = parts.next();
    let plausible =
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !plausible || client == Some("") || parts.next().is_some() {
        return Err(Problem::invalid("sandboxID", "Invalid sandbox ID"));
    }
    id.parse().map_err(|_| Error::not_found("sandbox", id).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_client_id_is_cut_off() {
        let id = SandboxId::random();
        assert_eq!(sandbox_id(id.as_str()).ok(), Some(id.clone()));
        assert_eq!(sandbox_id(&format!("{id}-6532622b")).ok(), Some(id));
    }

    #[test]
    fn what_looks_like_an_id_is_missing_and_the_rest_is_invalid() {
        for missing in ["nonexistent", "i", "abc123", "x-y"] {
            assert_eq!(sandbox_id(missing).unwrap_err().status(), 404, "{missing}");
        }
        for invalid in ["", "-", "a-", "A", "a_b", "../x", "a-b-c", "a/b", "é", "a b", "a%00", "-a"]
        {
            assert_eq!(sandbox_id(invalid).unwrap_err().status(), 400, "{invalid}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_or_400_or_404(text in ".{0,60}") {
            if let Err(problem) = sandbox_id(&text) {
                prop_assert!([400, 404].contains(&problem.status().as_u16()));
            }
        }
    }
}
