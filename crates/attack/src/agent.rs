//! Streams of the Connect protocol, as little of them as the battery needs.

use std::{
    io::{self, Read},
    time::Duration,
};

use serde_json::Value;

use crate::http::Body;

const END_OF_STREAM: u8 = 2;
/// The largest message that is read.
const MAX_MESSAGE: usize = 16 << 20;

/// A message as it travels in a stream.
pub(crate) fn envelope(message: &Value) -> Vec<u8> {
    let text = message.to_string();
    frame(0, text.len() as u32, text.as_bytes())
}

/// A frame whose header may lie about its payload.
pub(crate) fn frame(flags: u8, length: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![flags];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The messages of a stream.
#[derive(Debug)]
pub(crate) struct Frames {
    body: Body,
    error: Option<String>,
}

impl Frames {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, error: None }
    }

    /// The next message, or `None` at the end of the stream.
    pub(crate) fn next(&mut self, within: Duration) -> io::Result<Option<Value>> {
        self.body.timeout(within)?;
        let mut head = [0; 5];
        self.body.read_exact(&mut head)?;
        let [flags, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_MESSAGE {
            return Err(io::Error::other(format!("a message of {length} bytes")));
        }
        let mut payload = vec![0; length];
        self.body.read_exact(&mut payload)?;
        let message: Value = serde_json::from_slice(&payload).map_err(io::Error::other)?;
        if flags & END_OF_STREAM == 0 {
            return Ok(Some(message));
        }
        self.error = message.get("error").map(Value::to_string);
        Ok(None)
    }

    /// The error that the stream ended with.
    pub(crate) fn ended_with(&self) -> Option<&str> {
        self.error.as_deref()
    }

    pub(crate) fn close(&self) {
        self.body.close();
    }
}
