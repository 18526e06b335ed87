//! Undoes the compression of an upload, in pieces: however much a body unfolds to, no more than one
//! piece of it is in memory.

use std::{
    collections::VecDeque,
    io::{self, BufRead, ErrorKind, Read},
};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;

use super::{
    incoming::Incoming,
    outgoing::PIECE,
    refusal::{Refusal, Result},
};
use crate::fs::blocking;

/// A body, decompressed if it is compressed.
#[derive(Debug)]
pub enum Source {
    Plain(Incoming),
    Gzip(Incoming, Gunzip),
}

impl Source {
    pub fn plain(incoming: Incoming) -> Self {
        Self::Plain(incoming)
    }

    pub fn gzip(incoming: Incoming) -> Self {
        Self::Gzip(incoming, Gunzip(Some(Box::new(MultiGzDecoder::new(Feed::default())))))
    }

    /// The next bytes, never empty; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Plain(incoming) => incoming.next().await,
            Self::Gzip(incoming, gunzip) => gunzip.next(incoming).await,
        }
    }
}

type Decoder = Box<MultiGzDecoder<Feed>>;

/// Absent while it works elsewhere, and after an error.
#[derive(Debug)]
pub struct Gunzip(Option<Decoder>);

impl Gunzip {
    async fn next(&mut self, incoming: &mut Incoming) -> Result<Option<Bytes>> {
        loop {
            let Some(mut decoder) = self.0.take() else { return Ok(None) };
            let (decoder, result) = blocking(move || {
                let result = fill(&mut decoder);
                (decoder, result)
            })
            .await?;
            match result {
                Ok(bytes) if bytes.is_empty() => return Ok(None),
                Ok(bytes) => {
                    self.0 = Some(decoder);
                    return Ok(Some(bytes));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut decoder = decoder;
                    match incoming.next().await? {
                        Some(bytes) => decoder.get_mut().chunks.push_back(bytes),
                        None => decoder.get_mut().ended = true,
                    }
                    self.0 = Some(decoder);
                }
                Err(error) => {
                    return Err(Refusal::bad_request(format!("invalid gzip body: {error}")));
                }
            }
        }
    }
}

/// Decompresses one piece, or less if the input does not suffice.
fn fill(decoder: &mut MultiGzDecoder<Feed>) -> io::Result<Bytes> {
    let mut piece = vec![0; PIECE];
    let mut length = 0;
    while length < piece.len() {
        match decoder.read(&mut piece[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock && length > 0 => break,
            Err(error) => return Err(error),
        }
    }
    piece.truncate(length);
    Ok(piece.into())
}

/// What came in and was not decompressed yet; says that more may come until it is ended.
#[derive(Debug, Default)]
struct Feed {
    chunks: VecDeque<Bytes>,
    ended: bool,
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.chunks.front() {
            Some(chunk) => Ok(chunk),
            None if self.ended => Ok(&[]),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn consume(&mut self, count: usize) {
        if let Some(chunk) = self.chunks.front_mut() {
            chunk.advance(count);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::body::Body;
    use flate2::{Compression, write::GzEncoder};
    use futures::stream;

    use super::*;

    fn zip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn unzip(body: &[u8], step: usize) -> Result<Vec<u8>> {
        let chunks: Vec<_> = body
            .chunks(step)
            .map(|chunk| Ok::<_, io::Error>(Bytes::copy_from_slice(chunk)))
            .collect();
        let mut source = Source::gzip(Incoming::new(Body::from_stream(stream::iter(chunks))));
        let mut all = Vec::new();
        while let Some(bytes) = source.next().await? {
            assert!(bytes.len() <= PIECE);
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn pieces_and_members_join() {
        let content: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
        let body = [zip(&content[..1_000_000]), zip(&content[1_000_000..])].concat();
        for step in [7919, body.len()] {
            assert_eq!(unzip(&body, step).await.unwrap(), content);
        }
        let small = [zip(b"a"), zip(b""), zip(b"b")].concat();
        assert_eq!(unzip(&small, 1).await.unwrap(), b"ab");
    }

    #[tokio::test]
    async fn broken_bodies_are_refused() {
        let body = zip(b"some text, some text, some text");
        let mut flipped = body.clone();
        flipped[15] ^= 0xff;
        let trailing = [&body[..], b"garbage"].concat();
        for broken in [&body[..body.len() - 1], &body[..5], b"", b"plain", &flipped, &trailing] {
            let refusal = unzip(broken, 3).await.unwrap_err();
            assert_eq!(refusal.status, 400, "{refusal:?}");
        }
    }

    #[tokio::test]
    async fn a_bomb_comes_out_in_pieces() {
        let body = zip(&vec![0; 64 << 20]);
        assert!(body.len() < 1 << 20);
        let mut source = Source::gzip(Incoming::new(Body::from(body)));
        let mut total = 0;
        while let Some(bytes) = source.next().await.unwrap() {
            assert!(bytes.len() <= PIECE);
            total += bytes.len();
        }
        assert_eq!(total, 64 << 20);
    }
}
