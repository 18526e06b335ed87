//! `GET /files`.

use std::{
    fs::File,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    extract::{Request, State as Shared},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use rustix::{
    fs::{FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::{
    content_type,
    encoding::{self, Coding},
    outgoing::{self, Part, head_length, read_head},
    query::Query,
    range::{self, Selection, Span},
    refusal::{Refusal, Result},
    signature::Operation,
};
use crate::{
    State,
    fs::{Actor, Error, blocking},
    paths::base_name,
};

pub async fn get(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let mut response = match download(state, &parts).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

async fn download(state: Arc<State>, parts: &http::request::Parts) -> Result<Response> {
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    query.authorize(&state, parts, Operation::Read)?;
    let selective = range::is_selective(&parts.headers);
    let accept = joined(&parts.headers, &header::ACCEPT_ENCODING);
    let coding = encoding::choose(accept.as_deref(), selective);
    let found = blocking(move || {
        let actor = Actor::find(&state, query.user())?;
        let path = actor.resolve(query.path.as_deref().unwrap_or_default())?;
        Found::open(
            &path,
            coding.is_ok(),
            if selective { content_type::SNIFFED } else { head_length() },
        )
    })
    .await??;
    Ok(match coding {
        Ok(Coding::Gzip) => found.zipped(),
        // Not acceptable was refused when the file was found.
        Ok(Coding::Identity) | Err(encoding::NotAcceptable) => found.plain(&parts.headers),
    })
}

/// An open file and its beginning.
struct Found {
    file: File,
    name: String,
    head: Bytes,
    /// Absent if only reading to the end tells.
    size: Option<u64>,
    modified: SystemTime,
}

impl Found {
    /// Opens what `path` leads to, if it may be sent, and reads at most `ahead` bytes of it.
    fn open(path: &Path, acceptable: bool, ahead: usize) -> Result<Self> {
        let shown = path.to_string_lossy();
        let missing =
            || Refusal::new(StatusCode::NOT_FOUND, format!("path '{shown}' does not exist"));
        let cannot = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR => missing(),
            error => Error::io(format!("error opening file '{shown}'"), error).into(),
        };
        check_kind(&shown, &rustix::fs::stat(path).map_err(cannot)?)?;
        if !acceptable {
            return Err(Refusal::new(
                StatusCode::NOT_ACCEPTABLE,
                "no acceptable encoding found: this server can send identity and gzip",
            ));
        }
        // Neither a FIFO that took the file's place nor a kernel log may block a thread.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(cannot)?);
        let stat = rustix::fs::fstat(&file).map_err(cannot)?;
        check_kind(&shown, &stat)?;
        let claimed = u64::try_from(stat.st_size).unwrap_or(0);
        // Files of /proc claim to be empty.
        let wanted = match usize::try_from(claimed) {
            Ok(0) | Err(_) => ahead,
            // One byte more shows that this is the end.
            Ok(claimed) if claimed <= ahead => claimed + 1,
            Ok(_) => ahead,
        };
        let head = read_head(&file, wanted).map_err(|error| {
            Refusal::from(Error::io(format!("error reading file '{shown}'"), error))
        })?;
        let size = match head.len() as u64 {
            // The whole file: what was read counts, not what was claimed.
            length if head.len() < wanted => Some(length),
            length if claimed > length => Some(claimed),
            _ => None,
        };
        let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
        Ok(Self {
            file,
            name: base_name(&shown).to_owned(),
            head,
            size,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        })
    }

    /// The whole file, compressed. Its type is not sniffed: clients see that of the uncompressed file.
    fn zipped(self) -> Response {
        let media_type = content_type::by_name(&self.name);
        let mut response = self.described(media_type.as_deref().unwrap_or(content_type::BINARY));
        set(&mut response, header::CONTENT_ENCODING, "gzip");
        let parts = self.all();
        *response.body_mut() = outgoing::gzip_body(self.file, parts);
        response
    }

    /// What the conditions and ranges of the request select, as it is.
    fn plain(self, headers: &HeaderMap) -> Response {
        let media_type = match content_type::by_name(&self.name) {
            Some(media_type) => media_type,
            None => content_type::sniff(&self.head).to_owned(),
        };
        let mut response = self.described(&media_type);
        let Some(size) = self.size else {
            let parts = self.all();
            *response.body_mut() = outgoing::body(self.file, parts);
            return response;
        };
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        match range::select(headers, size, self.modified) {
            Selection::Whole => {
                set(&mut response, header::CONTENT_LENGTH, &size.to_string());
                let parts = self.all();
                *response.body_mut() = match size == self.head.len() as u64 {
                    true => Body::from(self.head),
                    false => outgoing::body(self.file, parts),
                };
                response
            }
            Selection::Parts(spans) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let (parts, length) = match spans.as_slice() {
                    [span] => {
                        set(&mut response, header::CONTENT_RANGE, &span.content_range(size));
                        (vec![part(span)], span.length)
                    }
                    spans => {
                        let (parts, length, boundary) = multipart(spans, size, &media_type);
                        let media_type = format!("multipart/byteranges; boundary={boundary}");
                        set(&mut response, header::CONTENT_TYPE, &media_type);
                        (parts, length)
                    }
                };
                set(&mut response, header::CONTENT_LENGTH, &length.to_string());
                *response.body_mut() = outgoing::body(self.file, parts);
                response
            }
            Selection::Unsatisfiable => {
                let refusal = Refusal::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    format!("invalid range for a file of {size} bytes"),
                );
                let mut response = refusal.into_response();
                set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
                response
            }
            Selection::NotModified => {
                response.headers_mut().remove(header::CONTENT_TYPE);
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }
            Selection::PreconditionFailed => Refusal::new(
                StatusCode::PRECONDITION_FAILED,
                "the file does not meet the condition of the request",
            )
            .into_response(),
        }
    }

    fn described(&self, media_type: &str) -> Response {
        let mut response = Response::new(Body::empty());
        set(&mut response, header::CONTENT_TYPE, media_type);
        set(&mut response, header::CONTENT_DISPOSITION, &content_type::disposition(&self.name));
        set(&mut response, header::LAST_MODIFIED, &httpdate::fmt_http_date(self.modified));
        response
    }

    fn all(&self) -> Vec<Part> {
        let offset = self.head.len() as u64;
        let mut parts = vec![Part::Bytes(self.head.clone())];
        match self.size {
            Some(size) if size > offset => {
                parts.push(Part::Span { offset, length: size - offset });
            }
            Some(_) => {}
            None => parts.push(Part::Rest { offset }),
        }
        parts
    }
}

/// Only plain files: a FIFO would wait for ever, a device may never end.
fn check_kind(shown: &str, stat: &Stat) -> Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Refusal::bad_request(format!("path '{shown}' is a directory"))),
        _ => Err(Refusal::bad_request(format!("path '{shown}' is not a regular file"))),
    }
}

fn part(span: &Span) -> Part {
    Part::Span { offset: span.start, length: span.length }
}

/// The parts of a `multipart/byteranges` body, its length in bytes and its boundary.
fn multipart(spans: &[Span], size: u64, media_type: &str) -> (Vec<Part>, u64, String) {
    let boundary = format!("{:032x}", rand::random::<u128>());
    let (mut parts, mut length) = (Vec::new(), 0);
    for (index, span) in spans.iter().enumerate() {
        let gap = if index == 0 { "" } else { "\r\n" };
        let range = span.content_range(size);
        let text = format!(
            "{gap}--{boundary}\r\nContent-Range: {range}\r\nContent-Type: {media_type}\r\n\r\n"
        );
        length += text.len() as u64 + span.length;
        parts.push(Part::Bytes(text.into()));
        parts.push(part(span));
    }
    let end = format!("\r\n--{boundary}--\r\n");
    length += end.len() as u64;
    parts.push(Part::Bytes(end.into()));
    (parts, length, boundary)
}

/// Several fields of one name are one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> =
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    // Every value is made of visible ASCII; one that is not is left out.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
