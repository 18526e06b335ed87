//! `POST /files`: one file as the body itself, or any number as parts of a form.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State as Shared},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::time::timeout;

use super::{
    gunzip::Source,
    incoming::Incoming,
    multipart::{Event, Malformed, Splitter},
    query::Query,
    refusal::{Refusal, Result},
    signature::Operation,
    target::{Saved, Session},
    writer::Writer,
};
use crate::{State, reply};

/// How long gathered data waits for more before it is written, so that a slow upload shows in its file.
const GATHER: Duration = Duration::from_millis(250);
/// How many parts of a form may be files: the answer names them all.
const MAX_FILES: usize = 100_000;

const METADATA_PREFIX: &str = "x-metadata-";
/// What the kernel leaves of the name of an attribute after `user.e2b.`, in bytes.
const MAX_KEY: usize = 246;
/// The sum of what all keys and values take, in bytes.
const MAX_METADATA: usize = 4096;

pub async fn post(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let saved = match Upload::prepare(state, &parts) {
        Ok(upload) => upload.run(Incoming::new(body)).await,
        Err(refusal) => Err(refusal),
    };
    match saved {
        Ok(saved) => reply::json(StatusCode::OK, &saved),
        Err(refusal) => refusal.into_response(),
    }
}

struct Upload {
    session: Arc<Session>,
    path: Option<String>,
    gzip: bool,
    /// Absent if the body is the file.
    form: Option<Splitter>,
}

impl Upload {
    /// Everything that can be said before the body is looked at.
    fn prepare(state: Arc<State>, parts: &Parts) -> Result<Self> {
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        query.authorize(&state, parts, Operation::Write)?;
        let form = form_of(&parts.headers)?;
        if form.is_none() && query.path.as_deref().unwrap_or_default().is_empty() {
            return Err(Refusal::bad_request(
                "path query parameter is required for raw body upload",
            ));
        }
        let gzip = is_gzip(&parts.headers)?;
        let announced = parts
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let user = query.user().map(str::to_owned);
        let session = Session::new(state, user, metadata_of(&parts.headers)?, announced);
        let path = query.path.filter(|path| !path.is_empty());
        Ok(Self { session: Arc::new(session), path, gzip, form })
    }

    async fn run(self, incoming: Incoming) -> Result<Vec<Saved>> {
        let mut source = match self.gzip {
            true => Source::gzip(incoming),
            false => Source::plain(incoming),
        };
        match self.form {
            Some(form) => save_form(self.session, self.path, form, &mut source).await,
            None => {
                let path = self.path.unwrap_or_default();
                save_body(Writer::new(self.session, path), &mut source).await
            }
        }
    }
}

async fn save_body(writer: Writer, source: &mut Source) -> Result<Vec<Saved>> {
    let mut writer = Some(writer);
    while let Some(bytes) = pull(source, &mut writer).await? {
        if let Some(writer) = &mut writer {
            writer.write(bytes).await?;
        }
    }
    match writer {
        Some(writer) => Ok(vec![writer.finish().await?]),
        None => Ok(Vec::new()),
    }
}

async fn save_form(
    session: Arc<Session>,
    path: Option<String>,
    mut form: Splitter,
    source: &mut Source,
) -> Result<Vec<Saved>> {
    let mut saved = Vec::new();
    let mut writer: Option<Writer> = None;
    while let Some(bytes) = pull(source, &mut writer).await? {
        form.feed(bytes);
        while let Some(event) = form.next()? {
            match event {
                Event::Start(head) if head.name.as_deref() == Some("file") => {
                    if saved.len() >= MAX_FILES {
                        let message = format!("more than {MAX_FILES} files in one request");
                        return Err(Refusal::bad_request(message));
                    }
                    let named = head.filename.filter(|name| !name.is_empty());
                    let path = path.clone().or(named).ok_or_else(|| {
                        Refusal::bad_request("a file needs a file name or the path query parameter")
                    })?;
                    writer = Some(Writer::new(Arc::clone(&session), path));
                }
                // Other fields mean nothing here.
                Event::Start(_) => {}
                Event::Data(bytes) => {
                    if let Some(writer) = &mut writer {
                        writer.write(bytes).await?;
                    }
                }
                Event::End => {
                    if let Some(writer) = writer.take() {
                        saved.push(writer.finish().await?);
                    }
                }
            }
        }
    }
    form.finish()?;
    Ok(saved)
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::bad_request(malformed.to_string())
    }
}

/// The next bytes of the body; meanwhile what was gathered before is written, if they take long.
async fn pull(source: &mut Source, writer: &mut Option<Writer>) -> Result<Option<Bytes>> {
    let mut next = pin!(source.next());
    if let Some(writer) = writer
        && writer.is_gathering()
    {
        match timeout(GATHER, &mut next).await {
            Ok(bytes) => return bytes,
            Err(_) => writer.flush().await?,
        }
    }
    next.await
}

/// How the body is to be split; `None` if it is a file as it is.
fn form_of(headers: &HeaderMap) -> Result<Option<Splitter>> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/octet-stream" => Ok(None),
        essence if essence.starts_with("multipart/") => Ok(Some(Splitter::new(given)?)),
        _ => Err(Refusal::bad_request(format!(
            "unsupported content type '{}': use multipart/form-data or application/octet-stream",
            essence.chars().take(100).collect::<String>()
        ))),
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool> {
    let mut gzip = false;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => {}
            "gzip" | "x-gzip" if !gzip => gzip = true,
            other => {
                return Err(Refusal::bad_request(format!(
                    "unsupported content encoding '{}': use gzip or none",
                    other.chars().take(100).collect::<String>()
                )));
            }
        }
    }
    Ok(gzip)
}

/// What the headers `X-Metadata-<key>` say; of a repeated one the first counts.
fn metadata_of(headers: &HeaderMap) -> Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    let mut total = 0;
    for (name, value) in headers {
        // The library keeps header names in lower case.
        let Some(key) = name.as_str().strip_prefix(METADATA_PREFIX) else { continue };
        if metadata.contains_key(key) {
            continue;
        }
        if key.is_empty() || key.len() > MAX_KEY {
            let message = format!("metadata keys have 1 to {MAX_KEY} bytes, not {}", key.len());
            return Err(Refusal::bad_request(message));
        }
        let printable = |text: &&str| text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        let Some(value) = value.to_str().ok().filter(printable) else {
            let message = format!("the metadata value of '{key}' is not printable ASCII");
            return Err(Refusal::bad_request(message));
        };
        total += "user.e2b.".len() + key.len() + value.len();
        if total > MAX_METADATA {
            let message = format!("metadata takes more than {MAX_METADATA} bytes");
            return Err(Refusal::bad_request(message));
        }
        metadata.insert(key.to_owned(), value.to_owned());
    }
    Ok(metadata)
}
