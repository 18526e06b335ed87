//! The Connect protocol with JSON, from the client's side.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::http::{Body, Http};
use crate::failure::{Failure, Result};

pub const UNARY: &str = "application/json";
pub const STREAMING: &str = "application/connect+json";

const HEADER: usize = 5;
const COMPRESSED: u8 = 1;
const END: u8 = 2;
/// The largest message that is read; the agent's are below 64 KiB.
const MAX_MESSAGE: usize = 16 << 20;
/// The largest error body of a stream that never began.
const MAX_ERROR: usize = 64 << 10;

/// A message as it travels in a stream.
///
/// # Errors
/// If `message` has no JSON form.
pub fn envelope(message: &impl Serialize) -> Result<Bytes> {
    let mut frame = BytesMut::with_capacity(256);
    frame.put_u8(0);
    frame.put_u32(0);
    serde_json::to_writer((&mut frame).writer(), message)
        .map_err(|error| Failure::Protocol(error.to_string()))?;
    let length = u32::try_from(frame.len() - HEADER)
        .map_err(|_| Failure::Protocol("a message over 4 GiB".into()))?;
    frame[1..HEADER].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

/// What a server streams back. Dropping it closes the connection.
#[derive(Debug)]
pub struct Messages<'a> {
    http: &'a Http,
    connection: Option<SendRequest<Body>>,
    body: Incoming,
    buffer: BytesMut,
}

impl<'a> Messages<'a> {
    /// Sends `request` and waits for the head of the stream.
    ///
    /// # Errors
    /// What the server said instead of a stream.
    pub async fn open(http: &'a Http, request: http::Request<Body>) -> Result<Self> {
        let (connection, response) = http.send(request).await?;
        let status = response.status();
        let mut messages = Self {
            http,
            connection: Some(connection),
            body: response.into_body(),
            buffer: BytesMut::new(),
        };
        if status.is_success() {
            return Ok(messages);
        }
        while messages.buffer.len() < MAX_ERROR && messages.fill().await? {}
        Err(Failure::answer(status.as_u16(), &messages.buffer))
    }

    /// The next message, or `None` after a clean end. Loses nothing when its future is dropped.
    ///
    /// # Errors
    /// The error that ends the stream, or the loss of the connection.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            if let Some((flags, payload)) = take(&mut self.buffer)? {
                if flags & END == 0 {
                    return serde_json::from_slice(&payload)
                        .map(Some)
                        .map_err(|error| Failure::Protocol(error.to_string()));
                }
                let end: EndOfStream = serde_json::from_slice(&payload)
                    .map_err(|error| Failure::Protocol(error.to_string()))?;
                return match end.error {
                    Some(error) => Err(Failure::connect(&error.code, error.message)),
                    None => self.finish().await.map(|()| None),
                };
            }
            if !self.fill().await? {
                return Err(self.http.unreachable("the connection was closed in the middle"));
            }
        }
    }

    /// More bytes; false at the end of the body.
    async fn fill(&mut self) -> Result<bool> {
        match self.body.frame().await {
            None => Ok(false),
            Some(Err(error)) => Err(self.http.unreachable(error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                Ok(true)
            }
        }
    }

    /// Reads to the very end, so that the connection can serve again.
    async fn finish(&mut self) -> Result<()> {
        while self.fill().await? {
            if !self.buffer.is_empty() {
                return Err(Failure::Protocol("bytes after the end of a stream".into()));
            }
        }
        if let Some(connection) = self.connection.take() {
            self.http.keep(connection).await;
        }
        Ok(())
    }
}

/// Takes the first envelope off the front of `buffer`, if all of it is there.
///
/// # Errors
/// One that is too large, or compressed.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>> {
    let Some(mut head) = buffer.get(..HEADER) else { return Ok(None) };
    let flags = head.get_u8();
    let length = head.get_u32() as usize;
    if length > MAX_MESSAGE {
        return Err(Failure::Protocol(format!("a message of {length} bytes")));
    }
    if flags & COMPRESSED != 0 {
        return Err(Failure::Protocol("a compressed message, which nobody asked for".into()));
    }
    if buffer.len() < HEADER + length {
        return Ok(None);
    }
    buffer.advance(HEADER);
    Ok(Some((flags, buffer.split_to(length).freeze())))
}

#[derive(Deserialize)]
struct EndOfStream {
    #[serde(default)]
    error: Option<ConnectError>,
}

#[derive(Deserialize)]
struct ConnectError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_counts_its_payload() {
        let bytes = envelope(&serde_json::json!({"a": 1})).expect("encodes");
        assert_eq!(&bytes[..], b"\x00\x00\x00\x00\x07{\"a\":1}");
    }
}
