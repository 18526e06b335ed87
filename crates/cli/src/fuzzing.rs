//! What fuzz targets call; no part of the interface.

use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::{client::connect, commands::sandbox::archive};

/// Unpacks a tar stream that came out of a sandbox into the directory `to`.
///
/// # Errors
/// What the user is told.
pub fn unpack(to: &Path, stream: &[u8]) -> Result<(), String> {
    archive::unpack(to, stream).map_err(|failure| failure.to_string())
}

/// The envelopes of a stream that a sandbox answered, as they arrive in pieces of `piece` bytes.
///
/// # Errors
/// What the user is told.
pub fn envelopes(stream: &[u8], piece: usize) -> Result<Vec<(u8, Bytes)>, String> {
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        while let Some(envelope) = connect::take(&mut buffer).map_err(|e| e.to_string())? {
            found.push(envelope);
        }
    }
    Ok(found)
}
