//! What fuzz targets call; no part of the interface.

use http::Request;
use soulbox_model::{
    SecretValue,
    network::{Domain, Marker, SecretName},
};

use crate::{
    dns::fuzzing,
    intercept,
    peek::{self, Spoken},
};

/// Whether more bytes are wanted, and the host that was found.
pub fn spoken(bytes: &[u8]) -> (bool, Option<Domain>) {
    match peek::spoken(bytes) {
        Spoken::More | Spoken::Text => (true, None),
        Spoken::Tls(host) => (false, host),
        Spoken::Http(host) => (false, host.ok()),
        Spoken::Other => (false, None),
    }
}

/// What leaves the host for a question from inside: its name, and the message that asks for it.
pub fn question(message: &[u8]) -> Option<(Domain, Vec<u8>)> {
    fuzzing::question(message)
}

/// How many addresses an answer from outside holds.
pub fn addresses(message: &[u8]) -> usize {
    fuzzing::addresses(message)
}

/// Puts a value in the places of its placeholder.
///
/// # Errors
/// Why it does not fit.
pub fn fill(
    named: (&Marker, &SecretName),
    value: SecretValue,
    request: &mut Request<()>,
) -> Result<(), String> {
    intercept::put_in(named, value, request)
}
