//! Messages of the Connect services, from both codecs.

use std::fmt::Debug;

use buffa::Message;
use serde::{Serialize, de::DeserializeOwned};
use soulbox_wire::{
    filesystem::{ListDirRequest, MoveRequest, WatchDirRequest},
    process::{SendInputRequest, StartRequest, StreamInputRequest, UpdateRequest},
};

use crate::input::Input;

/// What was read, written and read again is the same.
pub fn round_trip(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let bytes = input.rest();
    match choice % 14 {
        0 => binary::<StartRequest>(bytes),
        1 => binary::<StreamInputRequest>(bytes),
        2 => binary::<SendInputRequest>(bytes),
        3 => binary::<UpdateRequest>(bytes),
        4 => binary::<ListDirRequest>(bytes),
        5 => binary::<MoveRequest>(bytes),
        6 => binary::<WatchDirRequest>(bytes),
        7 => json::<StartRequest>(bytes),
        8 => json::<StreamInputRequest>(bytes),
        9 => json::<SendInputRequest>(bytes),
        10 => json::<UpdateRequest>(bytes),
        11 => json::<ListDirRequest>(bytes),
        12 => json::<MoveRequest>(bytes),
        _ => json::<WatchDirRequest>(bytes),
    }
}

fn binary<M: Message + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = M::decode_from_slice(bytes) else { return };
    let written = message.encode_to_vec();
    assert!(written.len() <= 2 * bytes.len() + 64, "it grows");
    assert_eq!(M::decode_from_slice(&written).expect("reads what it wrote"), message);
}

fn json<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = serde_json::from_slice::<M>(bytes) else { return };
    let written = serde_json::to_vec(&message).expect("has a JSON form");
    assert_eq!(serde_json::from_slice::<M>(&written).expect("reads what it wrote"), message);
}

/// What a sandbox's agent says to the command line, in pieces of any size.
pub fn envelopes(data: &[u8]) {
    let mut input = Input::new(data);
    let piece = usize::from(input.byte()) + 1;
    let stream = input.rest();
    let whole = soulbox_cli::fuzzing::envelopes(stream, stream.len());
    assert_eq!(whole, soulbox_cli::fuzzing::envelopes(stream, piece));
    if let Ok(found) = whole {
        let taken: usize = found.iter().map(|(_, payload)| payload.len() + 5).sum();
        assert!(taken <= stream.len());
        for (_, payload) in found {
            let event = serde_json::from_slice::<soulbox_cli::client::process::Response>(&payload);
            if let Ok(soulbox_cli::client::process::Response {
                event: soulbox_cli::client::process::Event::End(end),
            }) = event
            {
                let _ = end.code();
            }
        }
    }
}

/// What an agent answers when it is asked for its log: bounded, whatever it says.
pub fn log_lines(data: &[u8]) {
    let mut input = Input::new(data);
    let since = u64::from(input.byte());
    let Some(lines) = soulbox_control::fuzzing::log_lines(input.rest(), since) else { return };
    assert!(lines.len() <= 1000);
    for line in lines {
        assert!(line.message.len() <= 16 * 1024 && line.fields.len() <= 32);
        assert!(line.fields.iter().all(|(key, value)| key.len() <= 1024 && value.len() <= 1024));
        serde_json::to_string(&line.timestamp).expect("a time that clients can be told");
    }
}
