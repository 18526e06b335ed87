//! Requests to `/files` and the file system service, and places to aim them at.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Agent, Answer};

pub const BINARY: &str = "application/octet-stream";

/// The path and query for a file.
pub fn files(path: impl AsRef<Path>) -> String {
    let path = path.as_ref().to_str().unwrap();
    format!("/files?path={}", utf8_percent_encode(path, NON_ALPHANUMERIC))
}

pub async fn request(
    agent: &Agent,
    method: Method,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(uri).header("host", "agent");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    agent.call(request.body(body.into()).unwrap()).await
}

pub async fn download(agent: &Agent, path: impl AsRef<Path>, headers: &[(&str, &str)]) -> Answer {
    request(agent, Method::GET, &files(path), headers, Bytes::new()).await
}

pub async fn upload(
    agent: &Agent,
    path: impl AsRef<Path>,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let headers = [&[("content-type", BINARY)], headers].concat();
    request(agent, Method::POST, &files(path), &headers, body).await
}

/// Uploads a form with the boundary `XX`.
pub async fn upload_form(agent: &Agent, uri: &str, body: impl Into<Bytes>) -> Answer {
    let headers = [("content-type", "multipart/form-data; boundary=XX")];
    request(agent, Method::POST, uri, &headers, body).await
}

/// A part of a form with the boundary `XX`.
pub fn part(disposition: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--XX\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

/// Parts and the end of a form.
pub fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut body = parts.concat();
    body.extend(b"--XX--\r\n");
    body
}

pub async fn rpc(agent: &Agent, method: &str, headers: &[(&str, &str)], body: Value) -> Answer {
    let headers = [&[("content-type", "application/json")], headers].concat();
    let uri = format!("/filesystem.Filesystem/{method}");
    request(agent, Method::POST, &uri, &headers, body.to_string()).await
}

/// A call that must succeed.
pub async fn ok(agent: &Agent, method: &str, body: Value) -> Value {
    let answer = rpc(agent, method, &[], body).await;
    assert_eq!(answer.status, 200, "{method}: {:?}", answer.body);
    answer.json()
}

/// HTTP status and Connect code of a call that must fail.
pub async fn code(agent: &Agent, method: &str, body: Value) -> (u16, String) {
    let answer = rpc(agent, method, &[], body).await;
    let json = answer.json();
    assert!(!json["message"].as_str().unwrap().is_empty());
    (answer.status.as_u16(), json["code"].as_str().unwrap().to_owned())
}

/// A small file system of its own.
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// `options` as tmpfs has them, say `size=1m`. Needs root.
    pub fn new(options: &std::ffi::CStr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), options).unwrap();
        Self { directory }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(self.directory.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// Bytes that do not repeat soon.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
