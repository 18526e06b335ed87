//! The body of a download: pieces of a file, read one ahead of the network.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::stream;
use rustix::{buffer::spare_capacity, io::Errno};
use tokio::task::{JoinHandle, spawn_blocking};

/// How much is read at a time, in bytes.
pub const PIECE: usize = 256 * 1024;
/// How much is read at a time while clients that do not take what was read hold [`MAX_HELD`].
const SMALL_PIECE: usize = 16 * 1024;
/// How much all downloads together may have read ahead before they go on in small pieces, in bytes.
const MAX_HELD: usize = 64 * 1024 * 1024;

/// How much was read and not sent yet, by all downloads, in bytes.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Counts as held until the network has taken it.
struct Held(Vec<u8>);

impl Held {
    fn bytes(piece: Vec<u8>) -> Bytes {
        HELD.fetch_add(piece.capacity(), Ordering::Relaxed);
        Bytes::from_owner(Self(piece))
    }

    /// How much to read next.
    fn allowance() -> usize {
        if HELD.load(Ordering::Relaxed) < MAX_HELD { PIECE } else { SMALL_PIECE }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0.capacity(), Ordering::Relaxed);
    }
}

/// Something to send.
#[derive(Debug)]
pub enum Part {
    /// Bytes at hand.
    Bytes(Bytes),
    /// Exactly this much of the file; if it became shorter, the transfer breaks off.
    Span { offset: u64, length: u64 },
    /// Whatever there is from here to the end of the file.
    Rest { offset: u64 },
}

/// A body of these parts in order.
pub fn body(file: File, parts: impl IntoIterator<Item = Part>) -> Body {
    let outgoing =
        Outgoing { file: Arc::new(file), parts: parts.into_iter().collect(), ahead: None };
    Body::from_stream(stream::unfold(outgoing, Outgoing::step))
}

/// The same, compressed.
pub fn gzip_body(file: File, parts: impl IntoIterator<Item = Part>) -> Body {
    let outgoing =
        Outgoing { file: Arc::new(file), parts: parts.into_iter().collect(), ahead: None };
    let zipping =
        Zipping { outgoing, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) };
    Body::from_stream(stream::unfold(zipping, Zipping::step))
}

struct Outgoing {
    file: Arc<File>,
    parts: VecDeque<Part>,
    /// The next piece, being read.
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Outgoing {
    async fn step(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let piece = self.next().await?;
        Some((piece, self))
    }

    /// The next piece, never empty. After an error there is nothing more.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let piece = match self.ahead.take() {
            Some(ahead) => ahead,
            None => match self.start()? {
                Started::AtHand(bytes) => return Some(Ok(bytes)),
                Started::Reading(ahead) => ahead,
            },
        };
        let piece = piece.await.map_err(io::Error::other).flatten();
        match piece {
            Ok(bytes) if bytes.is_empty() => match self.parts.front() {
                Some(Part::Rest { .. }) => {
                    self.parts.pop_front();
                    Box::pin(self.next()).await
                }
                _ => {
                    self.parts.clear();
                    Some(Err(io::ErrorKind::UnexpectedEof.into()))
                }
            },
            Ok(bytes) => {
                self.advance(bytes.len() as u64);
                if let Some(Part::Span { .. } | Part::Rest { .. }) = self.parts.front()
                    && let Some(Started::Reading(ahead)) = self.start()
                {
                    self.ahead = Some(ahead);
                }
                Some(Ok(bytes))
            }
            Err(error) => {
                self.parts.clear();
                Some(Err(error))
            }
        }
    }

    /// Begins with the first part that is left.
    fn start(&mut self) -> Option<Started> {
        let allowance = Held::allowance();
        let (offset, length) = match self.parts.front()? {
            Part::Span { offset, length } => (
                *offset,
                usize::try_from(*length).map_or(allowance, |length| length.min(allowance)),
            ),
            Part::Rest { offset } => (*offset, allowance),
            Part::Bytes(_) => match self.parts.pop_front()? {
                Part::Bytes(bytes) => return Some(Started::AtHand(bytes)),
                _ => return None,
            },
        };
        let file = Arc::clone(&self.file);
        Some(Started::Reading(spawn_blocking(move || {
            read_at(&file, offset, length).map(Held::bytes)
        })))
    }

    /// Takes what was read off the first part.
    fn advance(&mut self, by: u64) {
        match self.parts.front_mut() {
            Some(Part::Span { length, .. }) if *length <= by => drop(self.parts.pop_front()),
            Some(Part::Span { offset, length }) => {
                *offset += by;
                *length -= by;
            }
            Some(Part::Rest { offset }) => *offset += by,
            Some(Part::Bytes(_)) | None => {}
        }
    }
}

enum Started {
    AtHand(Bytes),
    Reading(JoinHandle<io::Result<Bytes>>),
}

struct Zipping {
    outgoing: Outgoing,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Zipping {
    async fn step(mut self) -> Option<(io::Result<Bytes>, Self)> {
        loop {
            let mut encoder = self.encoder.take()?;
            let piece = match self.outgoing.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Some((Err(error), self)),
                None => {
                    let last = spawn_blocking(move || encoder.finish().map(Bytes::from)).await;
                    return Some((last.map_err(io::Error::other).flatten(), self));
                }
            };
            let zipped = spawn_blocking(move || {
                encoder.write_all(&piece)?;
                let bytes = Bytes::from(std::mem::take(encoder.get_mut()));
                io::Result::Ok((encoder, bytes))
            });
            match zipped.await.map_err(io::Error::other).flatten() {
                Ok((encoder, bytes)) => {
                    self.encoder = Some(encoder);
                    if !bytes.is_empty() {
                        return Some((Ok(bytes), self));
                    }
                }
                Err(error) => return Some((Err(error), self)),
            }
        }
    }
}

/// The first bytes of a file, less than `ahead` only if it ends before.
pub fn read_head(file: &File, ahead: usize) -> io::Result<Bytes> {
    read_at(file, 0, ahead).map(Held::bytes)
}

/// How much of a file is best read before the answer is begun, in bytes.
pub fn head_length() -> usize {
    Held::allowance()
}

/// Reads until there are `length` bytes or the file ends.
fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            // What came before the error is what some files of /proc consist of.
            Err(_) if !bytes.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}
