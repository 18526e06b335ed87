//! A policy by name, and what claims to be within it.

use serde_json::{Value, json};

use crate::{
    attack::{Fault, Outcome, Who, hold},
    field::Field,
    sandbox::Sandbox,
};

/// An address that answers to nobody here: every attempt must be refused before it is dialled.
pub(super) const SOMEWHERE: &str = "93.184.216.34";
/// A name that the rules allow and nobody has.
pub(super) const ALLOWED: &str = "x.allowed.example";

/// A sandbox that may reach what is below one domain.
pub(super) fn sandbox(field: &Field<'_>) -> Result<Sandbox, Fault> {
    let rules = json!({"allowOut": ["*.allowed.example"], "denyOut": ["0.0.0.0/0"]});
    field.fresh_with(json!({"network": rules}))
}

/// One offer of `offers.py`: bytes to an address.
pub(super) fn offer(address: &str, port: u16, bytes: impl AsRef<[u8]>) -> String {
    format!("{address}|{port}|{}", hex::encode(bytes))
}

pub(super) fn request(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// What came of each offer.
pub(super) fn offers(sandbox: &Sandbox, offers: &[String], who: Who) -> Result<Vec<String>, Fault> {
    let arguments: Vec<&str> = offers.iter().map(String::as_str).collect();
    let found = sandbox.finds(include_str!("../../../programs/offers.py"), &arguments, who)?;
    let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(found.as_array().map(|all| all.iter().map(said).collect()).unwrap_or_default())
}

const HOSTS: &[&str] = &[
    SOMEWHERE,
    "evil.example.net",
    "allowed.example",
    "xallowed.example",
    "x.allowed.example.evil.net",
    "x.allowed.example\0.evil.net",
    "x.allowed.example@evil.net",
    "evil.net#x.allowed.example",
    "evil.net\\x.allowed.example",
    "x.\u{430}llowed.example",
    "x.allowed.example:80:80",
    "x.allowed.example,evil.net",
    "x.allowed.example evil.net",
    "*.allowed.example",
    ".allowed.example",
    "-.allowed.example",
    "x..allowed.example",
    "[::ffff:93.184.216.34]",
    "1572395042",
    "",
];

/// Requests of which two readers could take different hosts, and other protocols.
const WORDS: &[(u16, &str)] = &[
    (80, "GET / HTTP/1.1\r\nHost: x.allowed.example\r\nHost: evil.net\r\n\r\n"),
    (80, "GET / HTTP/1.1\r\nHost: x.allowed.example\r\n evil.net\r\n\r\n"),
    (80, "GET / HTTP/1.1\r\nHost : x.allowed.example\r\n\r\n"),
    (80, "GET / HTTP/1.1\r\nX: y\rHost: x.allowed.example\r\n\r\n"),
    (80, "GET http://evil.net/ HTTP/1.1\r\nHost: x.allowed.example\r\n\r\n"),
    (80, "GET / HTTP/1.1\r\n\r\n"),
    (80, "GET / HTTP/1.0\r\n\r\n"),
    (80, "BREW / HTTP/1.1\r\nHost: evil.net\r\n\r\n"),
    (80, "\r\nget / HTTP/1.1\r\nHost: evil.net\r\n\r\n"),
    (8080, "CONNECT evil.net:443 HTTP/1.1\r\nHost: x.allowed.example\r\n\r\n"),
    (443, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (443, "SSH-2.0-OpenSSH_9.2\r\n"),
    (22, "SSH-2.0-OpenSSH_9.2\r\n"),
    (1080, "\x05\x01\0"),
    (1080, "\x04\x01\0\x50\0\0\0\x01user\0evil.net\0"),
    (9418, "0032git-upload-pack /p.git\0host=x.allowed.example\0"),
    (443, "\x16\x03\x01\0\x05\x01\0\0\x01\0"),
    (0, "anything"),
];

pub(super) fn rules(field: &Field<'_>, who: Who) -> Outcome {
    let sandbox = sandbox(field)?;
    let long = format!("{}.allowed.example", "x".repeat(300));
    let hosts = HOSTS.iter().copied().chain([long.as_str()]);
    let mut all: Vec<String> = hosts.map(|host| offer(SOMEWHERE, 80, request(host))).collect();
    all.extend(WORDS.iter().map(|(port, words)| offer(SOMEWHERE, *port, words)));
    for address in [SOMEWHERE, "::ffff:93.184.216.34", "2606:4700::1111"] {
        all.push(offer(address, 80, request("evil.example.net")));
        for (port, name) in [(443, ""), (443, "evil.example.net"), (853, "dns.google")] {
            all.push(format!("{address}|{port}|tls|{name}"));
        }
    }
    // An allowed name does not open an address that nobody may reach.
    for address in ["169.254.169.254", "127.0.0.1", "10.0.0.1", "fd00:ec2::254"] {
        all.push(offer(address, 80, request(ALLOWED)));
    }
    let found = offers(&sandbox, &all, who)?;
    hold!(found.len() == all.len(), "{} of {} offers were made", found.len(), all.len());
    for (offer, said) in all.iter().zip(&found) {
        hold!(["refused", "closed"].contains(&said.as_str()), "{offer} was answered: {said}");
    }
    let datagrams = [443, 853, 123, 5353, 4433].map(|port| format!("{SOMEWHERE}|{port}"));
    let datagrams: Vec<&str> = datagrams.iter().map(String::as_str).collect();
    let program = include_str!("../../../programs/datagrams.py");
    let fates = sandbox.finds(program, &datagrams, who)?;
    let refused = |fate: &Value| fate == "ECONNREFUSED";
    hold!(fates.as_array().is_some_and(|all| all.iter().all(refused)), "datagrams: {fates}");
    let words = found.iter().filter(|said| *said == "refused").count();
    Ok(format!("{} offers, {words} of them refused in words, and {} datagrams", all.len(), 5))
}
