//! JSON request bodies: bounded, and forgiving only where a client version needs it.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use soulbox_model::Error;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
    time::timeout,
};

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

/// Larger bodies than usual that are read and worked on at the same time; the others wait.
static LARGE: Semaphore = Semaphore::const_new(4);
/// From its first byte above [`MAX_BODY`], the wait included.
const LARGE_WITHIN: Duration = Duration::from_secs(120);

/// A JSON body with files in it.
#[derive(Debug)]
pub struct LargeBody<T> {
    pub value: T,
    /// To be kept until the value is gone; none of a body of usual size.
    pub place: Option<SemaphorePermit<'static>>,
}

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

impl<T: DeserializeOwned + Send + 'static> FromRequest<App> for LargeBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self> {
        let mut reader = Reader::begin(request)?;
        if reader.read_to(MAX_BODY).await? {
            return Ok(Self { value: parse(&reader.bytes)?, place: None });
        }
        let rest = async {
            let place = LARGE.acquire().await.ok();
            reader.read_to(MAX_LARGE).await.map(|whole| (whole, place))
        };
        let (whole, place) = timeout(LARGE_WITHIN, rest).await.map_err(|_| {
            let text = format!("not there within {} s", LARGE_WITHIN.as_secs());
            Problem::with_status(Error::invalid("body", text), StatusCode::REQUEST_TIMEOUT)
        })??;
        if !whole {
            return Err(reader.refuse(MAX_LARGE).await);
        }
        let bytes = reader.bytes;
        let value = spawn_blocking(move || parse(&bytes)).await;
        Ok(Self { value: value.map_err(|lost| Error::internal("parse", lost))??, place })
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
    let mut reader = Reader::begin(request)?;
    match reader.read_to(most).await? {
        true => Ok(reader.bytes),
        false => Err(reader.refuse(most).await),
    }
}

struct Reader {
    body: axum::body::Body,
    bytes: Vec<u8>,
}

impl Reader {
    fn begin(request: Request) -> Result<Self> {
        if let Some(coding) = request.headers().get(header::CONTENT_ENCODING)
            && coding.as_bytes() != b"identity"
        {
            let error = Error::invalid("Content-Encoding", "request bodies must not be compressed");
            return Err(Problem::with_status(error, StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        Ok(Self { body: request.into_body(), bytes: Vec::new() })
    }

    /// Reads to the end, which is answered by true, or until there are more than `most` bytes.
    async fn read_to(&mut self, most: usize) -> Result<bool> {
        while self.bytes.len() <= most {
            let Some(frame) = self.body.frame().await else { return Ok(true) };
            let frame = frame
                .map_err(|_| Problem::invalid("body", "the connection broke before its end"))?;
            if let Ok(data) = frame.into_data() {
                self.bytes.extend_from_slice(&data);
            }
        }
        Ok(false)
    }

    async fn refuse(self, most: usize) -> Problem {
        drain(self.body).await;
        let error = Error::invalid("body", format!("larger than {most} bytes"));
        Problem::with_status(error, StatusCode::PAYLOAD_TOO_LARGE)
    }
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
    let _ = timeout(DRAIN_WITHIN, rest).await;
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
    use soulbox_wire::rest::{NewPortPass, NewSandbox, PutSecret, RequestRules, SandboxDomains};

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
    fn bodies_of_our_own_know_all_their_fields() {
        fn refused<T: DeserializeOwned>(body: &str, wrong: &str, known: &str) {
            let Err(problem) = parse::<T>(body.as_bytes()) else { panic!("{body}") };
            let text = problem.error().to_string();
            assert_eq!(problem.status(), 400, "{body}");
            assert!(text.contains(wrong) && text.contains(known), "{body}: {text}");
        }
        refused::<RequestRules>(r#"{"allows":["GET b.com/*"]}"#, "`allows`", "`allow`");
        refused::<RequestRules>(r#"{"per_minute":{"a.com":5}}"#, "`per_minute`", "`perMinute`");
        refused::<PutSecret>(r#"{"value":"x","host":["a.com"]}"#, "`host`", "`hosts`");
        refused::<NewPortPass>(r#"{"port":3000,"expiresIn":2}"#, "`expiresIn`", "`timeout`");
        refused::<SandboxDomains>(r#"{"domains":[],"ports":1}"#, "`ports`", "`port`");
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
