//! JSON request bodies: bounded, and forgiving only where a client version needs it.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use soulbox_model::Error;

use crate::App;
use crate::problem::{Problem, Result};

/// The largest request body, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// The largest body that brings files, in bytes: lock files of large projects have some MiB.
const MAX_LARGE: usize = 24 * 1024 * 1024;

/// Of a larger body, this much more is read and thrown away.
const MAX_DRAINED: usize = 32 * 1024 * 1024;
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// A JSON body that must be there.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// A JSON body with files in it.
#[derive(Debug)]
pub struct LargeBody<T>(pub T);

/// A JSON body whose absence means the default: several clients send none.
#[derive(Debug)]
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self> {
        let bytes = read(request, MAX_BODY).await?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Send> FromRequest<App> for LargeBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self> {
        let bytes = read(request, MAX_LARGE).await?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default + Send> FromRequest<App> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self> {
        let bytes = read(request, MAX_BODY).await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(T::default()));
        }
        parse(&bytes).map(Self)
    }
}

async fn read(request: Request, most: usize) -> Result<Vec<u8>> {
    if let Some(coding) = request.headers().get(header::CONTENT_ENCODING)
        && coding.as_bytes() != b"identity"
    {
        let error = Error::invalid("Content-Encoding", "request bodies must not be compressed");
        return Err(Problem::with_status(error, StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Problem::invalid("body", "the connection broke before its end"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            drain(body).await;
            let error = Error::invalid("body", format!("larger than {most} bytes"));
            return Err(Problem::with_status(error, StatusCode::PAYLOAD_TOO_LARGE));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Takes what a client sends before it looks at the answer: without that it would see its
/// connection reset and not the 413.
async fn drain(mut body: axum::body::Body) {
    let rest = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, |data| data.len());
            if taken > MAX_DRAINED {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_WITHIN, rest).await;
}

/// The message names the field: axum tracks the path while it deserializes.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // Serde would take an array for a struct, field by field.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::invalid("validation error", "the body must be a JSON object"));
    }
    match axum::Json::<T>::from_bytes(bytes) {
        Ok(axum::Json(value)) => Ok(value),
        Err(rejection) => {
            let text = rejection.body_text();
            let cause = text
                .strip_prefix("Failed to deserialize the JSON body into the target type: ")
                .or_else(|| text.strip_prefix("Failed to parse the request body as JSON: "))
                .unwrap_or(&text);
            Err(Problem::invalid("validation error", cause.chars().take(500).collect::<String>()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use soulbox_wire::rest::NewSandbox;

    use super::*;

    #[test]
    fn the_message_names_the_field() {
        let problem = parse::<NewSandbox>(br#"{"templateID":"base","timeout":"5"}"#).unwrap_err();
        assert_eq!(problem.status(), 400);
        assert!(problem.error().to_string().contains("timeout"), "{}", problem.error());
        let problem =
            parse::<NewSandbox>(br#"{"templateID":"base","envVars":{"A":1}}"#).unwrap_err();
        assert!(problem.error().to_string().contains("envVars.A"), "{}", problem.error());
    }

    #[test]
    fn a_deep_body_is_refused_and_not_followed() {
        let deep = format!(r#"{{"templateID":"base","network":{}"#, r#"{"a":"#.repeat(100_000));
        assert_eq!(parse::<NewSandbox>(deep.as_bytes()).unwrap_err().status(), 400);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_a_400(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Err(problem) = parse::<NewSandbox>(&bytes) {
                prop_assert_eq!(problem.status(), 400);
            }
        }

        #[test]
        fn what_a_client_writes_is_read_back(
            template in "[a-z0-9-]{1,20}",
            timeout in proptest::option::of(any::<i32>()),
            metadata in proptest::option::of(proptest::collection::btree_map(".*", ".*", 0..5)),
        ) {
            let sent = NewSandbox { template_id: template, timeout, metadata, ..NewSandbox::default() };
            let bytes = serde_json::to_vec(&sent).unwrap();
            prop_assert_eq!(parse::<NewSandbox>(&bytes).unwrap(), sent);
        }
    }
}
