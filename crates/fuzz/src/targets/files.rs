//! `/files` of the agent: bodies, query strings, signatures, ranges.

use std::{
    io::Read as _,
    time::{Duration, SystemTime},
};

use axum::body::Body;
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http::HeaderMap;
use soulbox_agent::fuzzing::{
    Claim, Coding, Denial, Event, Head, Operation, Query, Selection, Splitter, check, choose,
    gunzip, select, sign,
};

use crate::{
    input::{self, Input},
    targets::rpc::block_on,
};

/// The parts of a body are the same in whatever pieces it arrives.
pub fn multipart(data: &[u8]) {
    let mut input = Input::new(data);
    let piece = usize::from(input.byte()) + 1;
    let content_type = String::from_utf8_lossy(input.line()).into_owned();
    let body = input.rest();
    let whole = split(&content_type, body, body.len().max(1));
    let pieces = split(&content_type, body, piece);
    assert_eq!(whole, pieces, "another result in pieces of {piece} bytes");
    if let Ok((parts, _)) = whole {
        let content: usize = parts.iter().map(|(_, content)| content.len()).sum();
        assert!(content <= body.len(), "more in the parts than in the body");
    }
}

type Parts = (Vec<(Head, Vec<u8>)>, bool);

/// The parts so far, and whether the body was complete.
fn split(content_type: &str, body: &[u8], piece: usize) -> Result<Parts, String> {
    let mut splitter = Splitter::new(content_type).map_err(|error| error.to_string())?;
    let (mut parts, mut open) = (Vec::new(), false);
    for piece in body.chunks(piece) {
        splitter.feed(Bytes::copy_from_slice(piece));
        while let Some(event) = splitter.next().map_err(|_| "malformed".to_owned())? {
            match event {
                Event::Start(head) => {
                    assert!(!open, "a part begins in another");
                    open = true;
                    parts.push((head, Vec::new()));
                }
                Event::Data(data) => {
                    assert!(open && !data.is_empty());
                    if let Some((_, content)) = parts.last_mut() {
                        content.extend_from_slice(&data);
                    }
                }
                Event::End => {
                    assert!(open, "an end without a beginning");
                    open = false;
                }
            }
        }
    }
    let complete = splitter.finish().is_ok();
    assert!(!(complete && open), "complete in the middle of a part");
    Ok((parts, complete))
}

/// A compressed body unfolds to what a decompressor of the whole makes of it, in bounded pieces.
pub fn compressed(data: &[u8]) {
    /// More than the agent ever holds of a body.
    const MAX_PIECE: usize = 1 << 20;
    const LIMIT: usize = 1 << 18;
    let mut input = Input::new(data);
    let piece = usize::from(input.byte()) * 16 + 1;
    let body = input.rest();
    let chunks: Vec<_> = body
        .chunks(piece)
        .map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk)))
        .collect();
    let stream = http_body_util::StreamBody::new(futures::stream::iter(
        chunks.into_iter().map(|chunk| chunk.map(http_body::Frame::data)),
    ));
    let pieces = block_on(gunzip(Body::new(stream), LIMIT));
    let mut expected = Vec::new();
    let decoded = MultiGzDecoder::new(body).take(2 * LIMIT as u64).read_to_end(&mut expected);
    match pieces {
        Ok(pieces) => {
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= MAX_PIECE));
            let got = pieces.concat();
            assert!(got.len() < LIMIT + MAX_PIECE);
            // Before an error the one may have got further than the other.
            let both = got.len().min(expected.len());
            assert!(got[..both] == expected[..both], "other bytes than were compressed");
            if got.len() < LIMIT {
                assert!(decoded.is_ok() && got == expected, "an error was passed over");
            }
        }
        Err(_) => assert!(decoded.is_err(), "refused what is sound"),
    }
}

/// A signature opens what it was made for, and nothing else.
pub fn signature(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let operation = if choice & 1 == 0 { Operation::Read } else { Operation::Write };
    let token = String::from_utf8_lossy(input.line()).into_owned();
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let Ok(query) = Query::parse(text) else { return };
    let claim = Claim {
        path: query.path.as_deref().unwrap_or_default(),
        username: query.username.as_deref().unwrap_or_default(),
        operation,
        expiration: query.signature_expiration,
    };
    let now = 1_800_000_000;
    let signed = sign(&token, &claim);
    let expired = claim.expiration.is_some_and(|at| at < now);
    let right = check(&token, None, &claim, Some(&signed), now);
    assert_eq!(right, if expired { Err(Denial::Expired) } else { Ok(()) });
    if let Some(given) = query.signature.as_deref().filter(|given| *given != signed) {
        assert_eq!(check(&token, None, &claim, Some(given), now), Err(Denial::Invalid));
    }
    assert_eq!(check(&token, None, &claim, None, now), Err(Denial::Missing));

    let other = match operation {
        Operation::Read => Operation::Write,
        Operation::Write => Operation::Read,
    };
    let moved = format!("{}x", claim.path);
    for foreign in [
        Claim { operation: other, ..claim },
        Claim { path: &moved, ..claim },
        Claim { expiration: Some(claim.expiration.unwrap_or(now).wrapping_add(1)), ..claim },
    ] {
        assert_ne!(sign(&token, &foreign), signed, "one signature for {foreign:?} and {claim:?}");
    }
    let longer = format!("{token}x");
    let wrong = check(&token, Some(longer.as_bytes()), &claim, Some(&signed), now);
    assert_eq!(wrong, Err(Denial::WrongToken), "a wrong token in the header decides");
}

/// Ranges lie in the file, and ask for no more than all of it.
pub fn range(data: &[u8]) {
    let mut input = Input::new(data);
    let size = match input.byte() {
        small @ 0..=250 => u64::from(small),
        251 => u64::MAX,
        252 => u64::MAX - 1,
        shift => 1 << (shift % 63),
    };
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let headers = input::headers(&mut input);
    let Selection::Parts(spans) = select(&headers, size, modified) else { return };
    assert!(!spans.is_empty() && spans.len() <= 64);
    let mut wanted = 0_u64;
    for span in spans {
        assert!(span.length > 0 && span.start < size);
        assert!(span.length <= size - span.start, "{span:?} leads out of {size} bytes");
        wanted = wanted.checked_add(span.length).filter(|sum| *sum <= size).unwrap_or_else(|| {
            panic!("more than all {size} bytes are sent");
        });
        assert!(span.content_range(size).starts_with("bytes "));
    }
}

/// No coding is used that the client forbids.
pub fn accept_encoding(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let headers = HeaderMap::from_iter(
        http::HeaderValue::from_str(text).map(|value| (http::header::ACCEPT_ENCODING, value)),
    );
    let accept = headers.get(http::header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    assert_ne!(choose(accept, true), Ok(Coding::Gzip), "gzip where only identity is possible");
    if let Ok(Coding::Gzip) = choose(accept, false) {
        let named = accept.unwrap_or_default().to_ascii_lowercase();
        assert!(named.contains("gzip") || named.contains('*'), "gzip for {named}");
    }
}
