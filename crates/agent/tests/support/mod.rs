//! An agent on a port of its own, and a client that speaks to it as the SDKs do: one HTTP/1.1
//! connection per call, Connect with JSON, or with binary messages where a test asks for it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use soulbox_agent::Settings;
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// Longer than anything takes here, shorter than the patience of whoever runs the tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running agent; stops with the test.
pub struct Agent {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Acts as `root` by default, which is who runs the tests.
pub fn agent() -> Agent {
    agent_with(Settings { default_user: "root".to_owned(), ..Settings::default() })
}

pub fn agent_with(settings: Settings) -> Agent {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        soulbox_agent::serve_alone(listener, settings).await.unwrap();
    });
    Agent { address, task }
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Start(u32),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Pty(Vec<u8>),
    Keepalive,
    /// Exit code, exited, status, error.
    End(i64, bool, String, Option<String>),
    /// The end of the stream: empty, or the code and text of its error.
    Closed(Option<(String, String)>),
}

/// All that a stream brought.
#[derive(Debug, Default, PartialEq)]
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub pty: Vec<u8>,
    pub end: Option<(i64, bool, String, Option<String>)>,
    pub error: Option<(String, String)>,
}

impl Output {
    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub fn stderr(&self) -> &str {
        std::str::from_utf8(&self.stderr).unwrap()
    }

    pub fn status(&self) -> &str {
        self.end.as_ref().map_or("no end", |(_, _, status, _)| status)
    }

    pub fn error_code(&self) -> &str {
        self.error.as_ref().map_or("no error", |(code, _)| code)
    }
}

/// The answer to a streaming call, message by message.
pub struct Frames {
    body: Incoming,
    buffer: BytesMut,
}

impl Frames {
    /// The next message with its flags: 0, or 2 at the end of the stream.
    pub async fn next(&mut self) -> Option<(u8, Value)> {
        loop {
            if self.buffer.len() >= 5 {
                let length = u32::from_be_bytes(self.buffer[1..5].try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + length {
                    let flags = self.buffer.get_u8();
                    self.buffer.advance(4);
                    let payload = self.buffer.split_to(length);
                    return Some((flags, serde_json::from_slice(&payload).unwrap()));
                }
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("no event in time")?;
            if let Ok(data) = frame.unwrap().into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

/// A stream of events.
pub struct Events {
    frames: Frames,
    pub headers: HeaderMap,
    done: bool,
}

impl Events {
    pub async fn next(&mut self) -> Event {
        assert!(!self.done, "nothing may come after the end frame");
        let (flags, message) = self.frames.next().await.expect("the stream broke off");
        if flags == 2 {
            self.done = true;
            assert!(self.frames.next().await.is_none(), "nothing may come after the end frame");
            let error = message.get("error").map(|error| {
                let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
                (text("code"), text("message"))
            });
            return Event::Closed(error);
        }
        assert_eq!(flags, 0);
        event(&message["event"])
    }

    /// Skips to the first event that `wanted` likes.
    pub async fn until(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        loop {
            let event = self.next().await;
            if wanted(&event) {
                return event;
            }
            assert!(!matches!(event, Event::Closed(_)), "{event:?}");
        }
    }

    pub async fn pid(&mut self) -> u32 {
        match self.next().await {
            Event::Start(pid) => pid,
            other => panic!("expected a start, got {other:?}"),
        }
    }

    /// Reads to the end of the stream.
    pub async fn collect(&mut self) -> Output {
        let mut output = Output::default();
        loop {
            let event = self.next().await;
            assert!(
                output.end.is_none() || matches!(event, Event::Closed(_)),
                "{event:?} after the end"
            );
            match event {
                Event::Start(_) | Event::Keepalive => {}
                Event::Stdout(bytes) => output.stdout.extend(bytes),
                Event::Stderr(bytes) => output.stderr.extend(bytes),
                Event::Pty(bytes) => output.pty.extend(bytes),
                Event::End(code, exited, status, error) => {
                    output.end = Some((code, exited, status, error));
                }
                Event::Closed(error) => {
                    output.error = error;
                    return output;
                }
            }
        }
    }
}

fn event(event: &Value) -> Event {
    let bytes = |data: &Value| BASE64_STANDARD.decode(data.as_str().unwrap()).unwrap();
    let (name, content) = event.as_object().unwrap().iter().next().unwrap();
    match name.as_str() {
        "start" => Event::Start(content["pid"].as_u64().unwrap() as u32),
        "keepalive" => Event::Keepalive,
        "end" => Event::End(
            content["exitCode"].as_i64().unwrap_or(0),
            content["exited"].as_bool().unwrap_or(false),
            content["status"].as_str().unwrap().to_owned(),
            content["error"].as_str().map(str::to_owned),
        ),
        "data" => match content.as_object().unwrap().iter().next().unwrap() {
            (name, data) if name == "stdout" => Event::Stdout(bytes(data)),
            (name, data) if name == "stderr" => Event::Stderr(bytes(data)),
            (_, data) => Event::Pty(bytes(data)),
        },
        other => panic!("unknown event {other}"),
    }
}

/// What an HTTP request got.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Agent {
    /// Sends one request on a connection of its own.
    pub async fn send(&self, request: Request<Bytes>) -> http::Response<Incoming> {
        // The agent's task may not have started listening yet.
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        timeout(PATIENCE, sender.send_request(request.map(Full::new))).await.unwrap().unwrap()
    }

    pub async fn call(&self, request: Request<Bytes>) -> Answer {
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Request::get(path).header("host", "agent").body(Bytes::new()).unwrap()).await
    }

    /// A unary call of `process.Process`.
    pub async fn unary(&self, method: &str, body: Value) -> Answer {
        let request = Request::post(format!("/process.Process/{method}"))
            .header("host", "agent")
            .header("content-type", "application/json")
            .header("connect-protocol-version", "1")
            // As the Python SDK does on every unary call.
            .header("content-encoding", "identity");
        self.call(request.body(body.to_string().into()).unwrap()).await
    }

    /// A unary call that must succeed.
    pub async fn ok(&self, method: &str, body: Value) -> Value {
        let answer = self.unary(method, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{method}: {:?}", answer.body);
        answer.json()
    }

    /// The Connect code of a unary call that must fail.
    pub async fn code(&self, method: &str, body: Value) -> String {
        let answer = self.unary(method, body).await;
        assert_ne!(answer.status, StatusCode::OK, "{method}");
        answer.json()["code"].as_str().unwrap().to_owned()
    }

    /// A streaming call, and the headers of its answer.
    pub async fn frames(
        &self,
        method: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> (HeaderMap, Frames) {
        let body = envelope(body.to_string().as_bytes());
        let mut request = Request::post(format!("/{method}"))
            .header("host", "agent")
            .header("content-type", "application/connect+json")
            .header("connect-protocol-version", "1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send(request.body(body).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        // Anything behind it, a charset say, and the Python SDK refuses the answer.
        assert_eq!(response.headers()["content-type"], "application/connect+json");
        let (parts, body) = response.into_parts();
        (parts.headers, Frames { body, buffer: BytesMut::new() })
    }

    /// A streaming call of `process.Process`.
    pub async fn stream(&self, method: &str, headers: &[(&str, &str)], body: Value) -> Events {
        let method = format!("process.Process/{method}");
        let (headers, frames) = self.frames(&method, headers, body).await;
        Events { frames, headers, done: false }
    }

    pub async fn start(&self, request: Value) -> Events {
        self.stream("Start", &[], request).await
    }

    /// Starts a shell script whose standard input is empty.
    pub async fn sh(&self, script: &str) -> Events {
        self.start(shell(script)).await
    }

    pub async fn run(&self, script: &str) -> Output {
        self.sh(script).await.collect().await
    }

    pub async fn connect(&self, pid: u32) -> Events {
        self.stream("Connect", &[], json!({"process": {"pid": pid}})).await
    }

    pub async fn pids(&self) -> Vec<u32> {
        let list = self.ok("List", json!({})).await;
        let processes = list["processes"].as_array().cloned().unwrap_or_default();
        processes.iter().map(|process| process["pid"].as_u64().unwrap() as u32).collect()
    }
}

pub fn shell(script: &str) -> Value {
    json!({"process": {"cmd": "/bin/sh", "args": ["-c", script]}, "stdin": false})
}

pub fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

pub fn envelope(payload: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes.into()
}

/// Looks again and again until it is so.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process, a zombie included, has this pid.
pub fn exists(pid: u32) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap()
}
