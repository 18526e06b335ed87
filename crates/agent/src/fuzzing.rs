//! What fuzz targets call; no part of the interface.

use axum::body::Body;
use bytes::Bytes;

pub use crate::files::{
    encoding::{Coding, choose},
    multipart::{Event, Head, Splitter},
    query::Query,
    range::{Selection, Span, select},
    signature::{Claim, Denial, Operation, check, sign},
};
use crate::files::{gunzip::Source, incoming::Incoming};

/// The pieces that a compressed body unfolds to, until `limit` bytes are reached.
///
/// # Errors
/// What the client is told about its body.
pub async fn gunzip(body: Body, limit: usize) -> Result<Vec<Bytes>, String> {
    let mut source = Source::gzip(Incoming::new(body));
    let (mut pieces, mut length) = (Vec::new(), 0);
    while length < limit {
        let Some(piece) = source.next().await.map_err(|refusal| refusal.message)? else { break };
        length += piece.len();
        pieces.push(piece);
    }
    Ok(pieces)
}
