//! The agent of a sandbox in which a template is prepared, through its private side.
//!
//! Hostile code runs beside it: what it answers is bounded and not believed.

use std::{collections::BTreeMap, path::Path, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::TryStreamExt as _;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde_json::json;
use soulbox_engine::Engine;
use soulbox_model::{BoxError, SandboxId};
use tokio_util::io::ReaderStream;

use crate::agent;

/// What is kept of a command's last words, in bytes.
pub(super) const TAIL: usize = 4096;
/// The largest message of a stream that is read; the agent's are below 64 KiB.
const MAX_MESSAGE: usize = 1 << 20;
const MAX_ANSWER: usize = 64 << 10;
const HEADER: usize = 5;
const END_OF_STREAM: u8 = 2;
/// What a command that was cut at its limit ends with.
const LATE: &str = "deadline_exceeded";
const CHUNK: usize = 256 << 10;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub(super) struct Agent<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) id: &'a SandboxId,
}

/// What is run inside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command<'a> {
    /// Program and arguments.
    pub(super) argv: &'a [String],
    pub(super) user: &'a str,
    pub(super) cwd: &'a str,
    pub(super) env: &'a BTreeMap<String, String>,
    /// It is killed when it takes longer.
    pub(super) limit: Duration,
}

#[derive(Deserialize)]
struct Message {
    event: Option<Event>,
    /// At the end of the stream.
    error: Option<Refusal>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Refusal {
    code: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Event {
    Start {},
    Keepalive {},
    Data(Data),
    End(End),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Data {
    Stdout(String),
    Stderr(String),
    Pty(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct End {
    exit_code: i32,
    exited: bool,
    status: String,
}

/// Of steps of root: what packages brought, and what everybody may write in `base`, is not looked at first.
const ROOTS_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";

impl Agent<'_> {
    /// Writes the file at `from` to `to`, as root.
    pub(super) async fn upload(&self, from: &Path, to: &str) -> Result<(), BoxError> {
        let file = tokio::fs::File::open(from).await?;
        let chunks = ReaderStream::with_capacity(file, CHUNK).map_ok(Frame::data);
        self.put(StreamBody::new(chunks).boxed_unsync(), to).await
    }

    /// Writes `content` to `to`, as root.
    pub(super) async fn write(&self, content: Bytes, to: &str) -> Result<(), BoxError> {
        let body = Full::new(content).map_err(|never| match never {});
        self.put(body.boxed_unsync(), to).await
    }

    async fn put(&self, body: Body, to: &str) -> Result<(), BoxError> {
        let request = self
            .request(&format!("/files?path={to}&username=root"), "root")
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(body)?;
        self.ask(request, async |response: http::Response<Incoming>| {
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
            if status == StatusCode::OK {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&body).into_owned();
            Err(format!("writing a file inside: {status}: {said}").into())
        })
        .await
    }

    /// Runs a command to its end.
    pub(super) async fn run(
        &self,
        user: &str,
        argv: &[&str],
        limit: Duration,
    ) -> Result<(), BoxError> {
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        let env = BTreeMap::new();
        let command = Command { argv: &argv, user, cwd: "/", env: &env, limit };
        self.run_command(command, |_| ()).await
    }

    /// Runs a command to its end; what it said last is in the error when it fails. `hear` is
    /// told what it says meanwhile.
    pub(super) async fn run_command(
        &self,
        command: Command<'_>,
        hear: impl FnMut(&[u8]),
    ) -> Result<(), BoxError> {
        let Command { argv, user, cwd, env, limit } = command;
        let mut env = env.clone();
        if user == "root" {
            env.entry("PATH".to_owned()).or_insert_with(|| ROOTS_PATH.to_owned());
        }
        let (program, args) = argv.split_first().ok_or("a step without a command")?;
        let start = json!({
            "process": { "cmd": program, "args": args, "envs": env, "cwd": cwd },
            "stdin": false,
        });
        let request = self
            .request("/process.Process/Start", user)
            .header(header::CONTENT_TYPE, "application/connect+json")
            .header("connect-protocol-version", "1")
            .header("connect-timeout-ms", limit.as_millis().to_string())
            .body(Full::new(envelope(&start)?).map_err(|never| match never {}).boxed_unsync())?;
        // A script is told by its end.
        let word = |word: &String| if word.contains('\n') { "…".into() } else { word.clone() };
        let name = argv.iter().map(word).collect::<Vec<_>>().join(" ");
        self.ask(request, async |response: http::Response<Incoming>| {
            if response.status() != StatusCode::OK {
                return Err(format!("`{name}`: {}", response.status()).into());
            }
            follow(response.into_body(), &name, limit, hear).await
        })
        .await
    }

    fn request(&self, path: &str, user: &str) -> http::request::Builder {
        let basic = BASE64_STANDARD.encode(format!("{user}:"));
        Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "sandbox")
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
    }

    async fn ask<T>(
        &self,
        request: Request<Body>,
        read: impl AsyncFnOnce(http::Response<Incoming>) -> Result<T, BoxError>,
    ) -> Result<T, BoxError> {
        // What it runs may not be run twice: only the connection is tried again.
        let stream = agent::connect(self.engine, self.id).await?;
        agent::exchange(stream, request, read).await
    }
}

fn envelope(message: &serde_json::Value) -> Result<Bytes, BoxError> {
    let payload = serde_json::to_vec(message)?;
    let mut frame = BytesMut::with_capacity(HEADER + payload.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(payload.len())?);
    frame.extend_from_slice(&payload);
    Ok(frame.freeze())
}

/// Reads what a command says until it has ended.
async fn follow(
    mut body: Incoming,
    name: &str,
    limit: Duration,
    mut hear: impl FnMut(&[u8]),
) -> Result<(), BoxError> {
    let (mut buffer, mut tail, mut ended) = (BytesMut::new(), Vec::new(), None);
    loop {
        while let Some((flags, message)) = take(&mut buffer)? {
            let message: Message = serde_json::from_slice(&message)?;
            if let Some(error) = message.error {
                let cut = format!("not done within {:.0} s", limit.as_secs_f64());
                let status = if error.code == LATE { &cut } else { &error.message };
                return Err(failure(name, status, &tail));
            }
            match message.event {
                Some(Event::Data(Data::Stdout(text) | Data::Stderr(text) | Data::Pty(text))) => {
                    let bytes = BASE64_STANDARD.decode(text)?;
                    hear(&bytes);
                    keep(&mut tail, &bytes);
                }
                Some(Event::End(end)) => ended = Some(end),
                Some(Event::Start {} | Event::Keepalive {}) | None => {}
            }
            if flags & END_OF_STREAM != 0 {
                return match ended {
                    Some(End { exit_code: 0, exited: true, .. }) => Ok(()),
                    Some(end) => Err(failure(name, &end.status, &tail)),
                    None => Err(failure(name, "its end was not seen", &tail)),
                };
            }
        }
        match body.frame().await {
            None => return Err(failure(name, "the sandbox ended", &tail)),
            Some(frame) => {
                if let Ok(data) = frame?.into_data() {
                    buffer.extend_from_slice(&data);
                }
            }
        }
    }
}

fn failure(name: &str, status: &str, tail: &[u8]) -> BoxError {
    let name: String = name.chars().take(200).collect();
    let status: String = status.chars().take(200).collect();
    let tail = String::from_utf8_lossy(tail);
    format!("`{name}`: {status}\n{}", tail.trim_end()).into()
}

fn keep(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(bytes);
    let excess = tail.len().saturating_sub(TAIL);
    tail.drain(..excess);
}

/// Takes the first envelope off the front of `buffer`, if all of it is there.
fn take(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, BoxError> {
    let Some(mut head) = buffer.get(..HEADER) else { return Ok(None) };
    let flags = head.get_u8();
    let length = head.get_u32() as usize;
    if length > MAX_MESSAGE {
        return Err(format!("a message of {length} bytes").into());
    }
    if buffer.len() < HEADER + length {
        return Ok(None);
    }
    buffer.advance(HEADER);
    Ok(Some((flags, buffer.split_to(length).freeze())))
}
