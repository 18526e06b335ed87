//! The agent of one sandbox, reached through the gateway.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use http::{Method, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use soulbox_model::{AGENT_PORT, SandboxId};

use super::{
    connect::{self, Messages, STREAMING, UNARY},
    http::{Http, full},
    process::{self, Base64, Event, Input, Pty, Response, Selector, SendSignal, Signal, Size},
};
use crate::failure::{Failure, Result};

/// The agent's side of a sandbox. Clones share connections.
#[derive(Debug, Clone)]
pub struct Remote {
    pub(super) http: Arc<Http>,
    id: SandboxId,
    token: Option<String>,
}

/// What to start, and how.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    pub process: process::Config,
    pub user: Option<String>,
    /// A terminal of this size instead of pipes.
    pub terminal: Option<Size>,
    /// Whether standard input is open.
    pub stdin: bool,
    /// The process is killed after it.
    pub timeout: Option<Duration>,
}

/// A process in a sandbox, and what it says.
#[derive(Debug)]
pub struct Running<'a> {
    pub pid: u32,
    messages: Messages<'a>,
    timeout: Option<Duration>,
}

/// The kind of a file in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Kind {
    #[serde(rename = "FILE_TYPE_FILE")]
    File,
    #[serde(rename = "FILE_TYPE_DIRECTORY")]
    Directory,
    #[serde(other)]
    Other,
}

impl Remote {
    pub(super) fn new(http: Arc<Http>, id: SandboxId, token: Option<String>) -> Self {
        Self { http, id, token }
    }

    /// The sandbox.
    pub fn id(&self) -> &SandboxId {
        &self.id
    }

    /// Starts a process and waits until it runs.
    ///
    /// # Errors
    /// What the agent says, or the gateway for a sandbox that is gone; [`Failure::CommandTimeout`] if its time was over
    /// before.
    pub async fn start(&self, launch: &Launch) -> Result<Running<'_>> {
        let start = process::Start {
            process: launch.process.clone(),
            pty: launch.terminal.map(|size| Pty { size }),
            stdin: launch.stdin,
        };
        let mut request = self
            .request(Method::POST, "/process.Process/Start", launch.user.as_deref())
            .header(header::CONTENT_TYPE, STREAMING)
            .header("connect-protocol-version", "1")
            .header("keepalive-ping-interval", "50");
        // As the protocol has it, 0 would be no time at all.
        if let Some(timeout) = launch.timeout.filter(|timeout| !timeout.is_zero()) {
            request = request.header("connect-timeout-ms", timeout.as_millis().to_string());
        }
        let request = request.body(full(connect::envelope(&start)?)).map_err(refused)?;
        let mut messages = Messages::open(&self.http, request).await?;
        let first = messages.next::<Response>().await;
        match first.map_err(|failure| at_limit(failure, launch.timeout))? {
            Some(Response { event: Event::Start { pid } }) => {
                Ok(Running { pid, messages, timeout: launch.timeout })
            }
            Some(_) => Err(Failure::Protocol("a process that speaks before it starts".into())),
            None => Err(Failure::Protocol("a process that never started".into())),
        }
    }

    /// # Errors
    /// What the agent says; not found when the process has ended.
    pub async fn signal(&self, pid: u32, signal: Signal) -> Result<()> {
        let message = SendSignal { process: Selector::Pid(pid), signal };
        self.unary("/process.Process/SendSignal", None, &message).await.map(empty_answer)
    }

    /// # Errors
    /// What the agent says.
    pub async fn resize(&self, pid: u32, size: Size) -> Result<()> {
        let message = process::Update { process: Selector::Pid(pid), pty: Pty { size } };
        self.unary("/process.Process/Update", None, &message).await.map(empty_answer)
    }

    /// # Errors
    /// What the agent says.
    pub async fn close_stdin(&self, pid: u32) -> Result<()> {
        let message = process::Select { process: Selector::Pid(pid) };
        self.unary("/process.Process/CloseStdin", None, &message).await.map(empty_answer)
    }

    /// Feeds a process from `chunks` until they end; for a terminal with `pty`.
    ///
    /// # Errors
    /// What the agent says; not found when the process has ended.
    pub async fn feed(
        &self,
        pid: u32,
        pty: bool,
        mut chunks: mpsc::Receiver<Vec<u8>>,
    ) -> Result<()> {
        let (mut frames, body) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
        let request = self
            .request(Method::POST, "/process.Process/StreamInput", None)
            .header(header::CONTENT_TYPE, STREAMING)
            .header("connect-protocol-version", "1")
            .body(StreamBody::new(body).boxed_unsync())
            .map_err(refused)?;
        let send = async move {
            let hello = connect::envelope(&Input::Start { process: Selector::Pid(pid) })?;
            let mut open = frames.send(Ok(Frame::data(hello))).await.is_ok();
            while let Some(chunk) = chunks.next().await
                && open
            {
                let bytes = Base64(chunk);
                let input =
                    if pty { process::Bytes::Pty(bytes) } else { process::Bytes::Stdin(bytes) };
                let frame = Frame::data(connect::envelope(&Input::Data { input })?);
                // The other side is gone when this fails; its answer says why.
                open = frames.send(Ok(frame)).await.is_ok();
            }
            Ok::<_, Failure>(())
        };
        let answer = async {
            let mut messages = Messages::open(&self.http, request).await?;
            while messages.next::<serde::de::IgnoredAny>().await?.is_some() {}
            Ok(())
        };
        tokio::pin!(send, answer);
        tokio::select! {
            answered = &mut answer => answered,
            sent = &mut send => { sent?; answer.await }
        }
    }

    /// # Errors
    /// What the agent says; not found when there is no such path.
    pub async fn kind(&self, path: &str, user: Option<&str>) -> Result<Kind> {
        #[derive(Serialize)]
        struct Stat<'a> {
            path: &'a str,
        }
        #[derive(Deserialize)]
        struct Stated {
            entry: Entry,
        }
        #[derive(Deserialize)]
        struct Entry {
            r#type: Kind,
        }
        let stated: Stated =
            self.unary("/filesystem.Filesystem/Stat", user, &Stat { path }).await?;
        Ok(stated.entry.r#type)
    }

    /// Makes a directory and those above it. One that exists is fine.
    ///
    /// # Errors
    /// What the agent says.
    pub async fn make_dir(&self, path: &str, user: Option<&str>) -> Result<()> {
        #[derive(Serialize)]
        struct MakeDir<'a> {
            path: &'a str,
        }
        let made = self.unary("/filesystem.Filesystem/MakeDir", user, &MakeDir { path }).await;
        match made.map(empty_answer) {
            Err(failure) if failure.code() == "SB-CONFLICT" => Ok(()),
            other => other,
        }
    }

    pub(super) async fn unary<T: DeserializeOwned>(
        &self,
        path: &str,
        user: Option<&str>,
        message: &impl Serialize,
    ) -> Result<T> {
        let body =
            serde_json::to_vec(message).map_err(|error| Failure::Protocol(error.to_string()))?;
        let request = self
            .request(Method::POST, path, user)
            .header(header::CONTENT_TYPE, UNARY)
            .header("connect-protocol-version", "1")
            .body(full(body))
            .map_err(refused)?;
        let answer = self.http.call(request).await?;
        if answer.status != 200 {
            return Err(Failure::answer(answer.status, &answer.body));
        }
        serde_json::from_slice(&answer.body).map_err(|error| Failure::Protocol(error.to_string()))
    }

    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        user: Option<&str>,
    ) -> http::request::Builder {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let mut request = self
            .http
            .request(method, path)
            .header("e2b-sandbox-id", self.id.as_str())
            .header("e2b-sandbox-port", AGENT_PORT.get());
        if let Some(token) = &self.token {
            request = request.header("x-access-token", token);
        }
        if let Some(user) = user {
            let basic = BASE64_STANDARD.encode(format!("{user}:"));
            request = request.header(header::AUTHORIZATION, format!("Basic {basic}"));
        }
        request
    }
}

impl Running<'_> {
    /// The next thing that happens, or `None` after the end of the stream.
    ///
    /// # Errors
    /// [`Failure::CommandTimeout`] at the time limit; otherwise what ended the stream.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        let message = self.messages.next::<Response>().await;
        let message = message.map_err(|failure| at_limit(failure, self.timeout))?;
        Ok(message.map(|message| message.event))
    }
}

/// What the end of a process at its time limit is called here.
fn at_limit(failure: Failure, limit: Option<Duration>) -> Failure {
    match (&failure, limit) {
        (Failure::Answer { code, .. }, Some(limit)) if code == "SB-NET-TIMEOUT" => {
            Failure::CommandTimeout(limit)
        }
        _ => failure,
    }
}

fn empty_answer(_: serde::de::IgnoredAny) {}

pub(super) fn refused(error: http::Error) -> Failure {
    Failure::usage(format!("request: {error}"))
}
