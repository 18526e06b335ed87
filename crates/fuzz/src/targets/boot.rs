//! The handshake between engine and agent.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
};

use soulbox_model::boot::{Message, Ready};
use soulbox_sys::scm;

/// Any bytes on the socket are a message of bounded length or an error, and a message that is read
/// and written again is the same.
pub fn handshake(data: &[u8]) {
    const MAX: usize = 64 * 1024;
    let (mut ours, theirs) = UnixStream::pair().expect("a socket pair");
    // The socket's buffer holds it: nothing waits for a reader.
    let sent = &data[..data.len().min(32 * 1024)];
    ours.write_all(sent).expect("fits");
    drop(ours);
    let received = scm::receive(&theirs, MAX);
    let claimed = sent.first_chunk::<4>().map(|head| u32::from_le_bytes(*head) as usize);
    match (received, claimed) {
        (Ok((payload, fds)), Some(length)) => {
            assert!(fds.is_empty() && payload.len() == length && length <= MAX);
            assert_eq!(payload, sent[4..4 + length]);
            messages(&payload);
        }
        (Ok(_), None) => panic!("a message without a length"),
        (Err(error), Some(length)) if length > MAX => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        (Err(error), _) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
    }
    messages(data);
}

fn messages(payload: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<Message>(payload) {
        let written = serde_json::to_vec(&message).expect("has a JSON form");
        assert_eq!(serde_json::from_slice::<Message>(&written).expect("reads it"), message);
    }
    if let Ok(ready) = serde_json::from_slice::<Ready>(payload) {
        let written = serde_json::to_vec(&ready).expect("has a JSON form");
        assert_eq!(serde_json::from_slice::<Ready>(&written).expect("reads it"), ready);
    }
}
