//! Files of a sandbox, streamed both ways.

use bytes::Bytes;
use futures::stream::unfold;
use http::{Method, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
};

use serde::{Deserialize, Serialize};

use super::{
    Remote,
    remote::{Kind, refused},
    server::quote,
};
use crate::{
    failure::{Failure, Result},
    progress::Step,
};

const CHUNK: usize = 64 << 10;
/// The largest error body that is read.
const MAX_ERROR: usize = 64 << 10;

impl Remote {
    /// Writes `file` to `path`, making the directories above it.
    ///
    /// # Errors
    /// What the agent says, such as that the disk is full.
    pub async fn upload(
        &self,
        path: &str,
        user: Option<&str>,
        file: File,
        step: std::sync::Arc<Step>,
    ) -> Result<()> {
        let chunks = unfold((file, step), |(mut file, step)| async move {
            let mut chunk = vec![0; CHUNK];
            let read = match file.read(&mut chunk).await {
                Ok(0) => return None,
                Ok(read) => read,
                Err(error) => return Some((Err(error), (file, step))),
            };
            chunk.truncate(read);
            step.advance(read as u64);
            Some((Ok(Frame::data(Bytes::from(chunk))), (file, step)))
        });
        let request = self
            .request(Method::POST, &files(path, user), None)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(StreamBody::new(chunks).boxed_unsync())
            .map_err(refused)?;
        let answer = self.http.call(request).await?;
        match answer.status {
            200 => Ok(()),
            status => Err(Failure::answer(status, &answer.body)),
        }
    }

    /// Writes `content` to `path`, making the directories above it.
    ///
    /// # Errors
    /// What the agent says.
    pub async fn write(&self, path: &str, user: Option<&str>, content: Bytes) -> Result<()> {
        let request = self
            .request(Method::POST, &files(path, user), None)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(super::http::full(content))
            .map_err(refused)?;
        let answer = self.http.call(request).await?;
        match answer.status {
            200 => Ok(()),
            status => Err(Failure::answer(status, &answer.body)),
        }
    }

    /// What the directory at `path` has, without what is below that.
    ///
    /// # Errors
    /// What the agent says; or more than an answer may have.
    pub async fn list_dir(&self, path: &str) -> Result<Vec<Listed>> {
        #[derive(Serialize)]
        struct ListDir<'a> {
            path: &'a str,
            depth: u32,
        }
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            entries: Vec<Listed>,
        }
        let message = ListDir { path, depth: 1 };
        let answer: Answer = self.unary("/filesystem.Filesystem/ListDir", None, &message).await?;
        Ok(answer.entries)
    }

    /// Copies the file at `path` into `into`.
    ///
    /// # Errors
    /// What the agent says, or what `into` says.
    pub async fn download(
        &self,
        path: &str,
        user: Option<&str>,
        into: &mut (impl AsyncWrite + Unpin),
        step: &Step,
    ) -> Result<()> {
        let request = self
            .request(Method::GET, &files(path, user), None)
            .body(super::http::empty())
            .map_err(refused)?;
        let (connection, response) = self.http.send(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut said = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.http.unreachable(error))?;
            let Ok(data) = frame.into_data() else { continue };
            if status.is_success() {
                into.write_all(&data).await.map_err(Failure::io("writing"))?;
                step.advance(data.len() as u64);
            } else if said.len() + data.len() <= MAX_ERROR {
                said.extend_from_slice(&data);
            }
        }
        if !status.is_success() {
            return Err(Failure::answer(status.as_u16(), &said));
        }
        into.flush().await.map_err(Failure::io("writing"))?;
        self.http.keep(connection).await;
        Ok(())
    }
}

/// What a directory of a sandbox has, as the sandbox says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub name: String,
    #[serde(default = "other")]
    pub r#type: Kind,
    /// Bytes. The agent's JSON has 64-bit numbers as texts.
    #[serde(default)]
    size: Option<Size>,
    #[serde(default)]
    is_symlink: bool,
    symlink_target: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Number(u64),
    Text(String),
}

fn other() -> Kind {
    Kind::Other
}

impl Listed {
    /// What it is, where it is no link.
    pub fn kind(&self) -> Kind {
        let link = self.is_symlink || self.symlink_target.is_some();
        if link { Kind::Other } else { self.r#type }
    }

    /// Bytes; 0 for what is no number.
    pub fn size(&self) -> u64 {
        match &self.size {
            Some(Size::Number(size)) => *size,
            Some(Size::Text(size)) => size.parse().unwrap_or_default(),
            None => 0,
        }
    }
}

fn files(path: &str, user: Option<&str>) -> String {
    let user = user.map(|user| format!("&username={}", quote(user))).unwrap_or_default();
    format!("/files?path={}{user}", quote(path))
}
