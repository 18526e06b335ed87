//! Where a connection says that it goes: the server name of TLS, the host of HTTP.
//!
//! Works on the first bytes alone, allocates nothing until it found a name, and never reads beyond
//! what a length field and the buffer both grant.

use soulbox_model::network::Domain;

/// The most that is kept before a connection must have said where it goes, in bytes.
pub const MOST: usize = 16 * 1024;

/// What the first bytes tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// Not enough yet.
    More,
    /// TLS; the name in lower case, if there is a valid one.
    Tls(Option<Domain>),
    /// HTTP/1; its host, if there is exactly one valid one.
    Http(Option<Domain>),
    /// Something else.
    Other,
}

pub fn spoken(bytes: &[u8]) -> Spoken {
    match bytes {
        [] => Spoken::More,
        [22, ..] => tls(bytes),
        [first, ..] if first.is_ascii_uppercase() => http(bytes),
        _ => Spoken::Other,
    }
}

/// Reads big-endian lengths and what they measure.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn measured(&mut self, bytes: usize) -> Option<Reader<'a>> {
        let length = self.number(bytes)?;
        self.take(length).map(Reader)
    }
}

/// A ClientHello may be spread over several records; they are joined first.
fn tls(bytes: &[u8]) -> Spoken {
    let mut records = Reader(bytes);
    let mut handshake = Vec::new();
    loop {
        match records.0 {
            [] => return Spoken::More,
            [22, 3, 0..=4, _, _, ..] => {}
            [22] | [22, 3] | [22, 3, 0..=4] | [22, 3, 0..=4, _] => return Spoken::More,
            _ => return if handshake.is_empty() { Spoken::Other } else { Spoken::Tls(None) },
        }
        records.take(3);
        let length = records.number(2).unwrap_or(0);
        if length == 0 {
            return Spoken::Tls(None);
        }
        let whole = records.0.len() >= length;
        handshake.extend_from_slice(records.take(length.min(records.0.len())).unwrap_or_default());
        match handshake.as_slice() {
            [1, a, b, c, ..] => {
                let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                if length > MOST {
                    return Spoken::Tls(None);
                }
                if let Some(hello) = handshake.get(4..4 + length) {
                    return Spoken::Tls(server_name(hello));
                }
            }
            [] | [1] | [1, _] | [1, _, _] => {}
            _ => return Spoken::Tls(None),
        }
        if !whole {
            return Spoken::More;
        }
    }
}

fn server_name(hello: &[u8]) -> Option<Domain> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?;
    hello.measured(1)?;
    hello.measured(2)?;
    hello.measured(1)?;
    let mut extensions = hello.measured(2)?;
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut body = extensions.measured(2)?;
        if kind != 0 {
            continue;
        }
        let mut names = body.measured(2)?;
        if names.number(1)? != 0 {
            return None;
        }
        let name = names.measured(2)?;
        // One name, once: what two readers could understand differently is not understood.
        if !names.0.is_empty() || found.is_some() {
            return None;
        }
        found = Some(std::str::from_utf8(name.0).ok()?.parse().ok()?);
    }
    found
}

const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

fn http(bytes: &[u8]) -> Spoken {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let method = bytes.split(|b| *b == b' ').next().unwrap_or_default();
    let known = |method: &[u8]| METHODS.iter().any(|known| known.as_bytes() == method);
    if method.len() == bytes.len() {
        let begins = METHODS.iter().any(|known| known.as_bytes().starts_with(method));
        return if begins { Spoken::More } else { Spoken::Other };
    }
    if !known(method) {
        return Spoken::Other;
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() >= MOST { Spoken::Http(None) } else { Spoken::More };
    };
    if !line.ends_with(b" HTTP/1.1\r") && !line.ends_with(b" HTTP/1.0\r") {
        return Spoken::Http(None);
    }
    let head = bytes.get(line.len() + 1..end + 2).unwrap_or_default();
    Spoken::Http(host(head).filter(|host| agrees(line, host)))
}

/// Of the header lines, each of which ends in CR LF.
fn host(head: &[u8]) -> Option<Domain> {
    let mut found = None;
    for line in head.split(|b| *b == b'\n') {
        let Some(line) = line.strip_suffix(b"\r") else {
            // A bare line feed, or the empty rest behind the last line.
            if line.is_empty() { continue } else { return None }
        };
        // Folded lines, blanks before the colon and bare CRs are read in more than one way.
        let colon = line.iter().position(|b| *b == b':')?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
        if line.contains(&b'\r') || name.iter().any(|b| !b.is_ascii_graphic()) {
            return None;
        }
        if !name.eq_ignore_ascii_case(b"host") {
            continue;
        }
        let value = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
        let bare = match value.rsplit_once(':') {
            Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) => bare,
            Some(_) => return None,
            None => value,
        };
        if found.is_some() {
            return None;
        }
        found = Some(bare.parse().ok()?);
    }
    found
}

/// A request target that names a host must name the same one.
fn agrees(line: &[u8], host: &Domain) -> bool {
    let target = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
    if target.starts_with(b"/") || target == b"*" {
        return true;
    }
    let Ok(target) = std::str::from_utf8(target) else { return false };
    let authority = target.split_once("://").map_or(target, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let bare = authority.split(':').next().unwrap_or_default();
    bare.parse::<Domain>().is_ok_and(|named| named == *host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain(name: &str) -> Option<Domain> {
        Some(name.parse().unwrap())
    }

    /// A ClientHello with one server name extension of this body.
    fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, body) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend((body.len() as u16).to_be_bytes());
            list.extend(body);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 2, 0x13, 0x01, 1, 0]);
        body.extend((list.len() as u16).to_be_bytes());
        body.extend(list);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    fn sni(name: &[u8]) -> (u16, Vec<u8>) {
        let mut body = ((name.len() + 3) as u16).to_be_bytes().to_vec();
        body.push(0);
        body.extend((name.len() as u16).to_be_bytes());
        body.extend(name);
        (0, body)
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in message.chunks(size) {
            bytes.extend([22, 3, 1]);
            bytes.extend((part.len() as u16).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }

    #[test]
    fn the_server_name_is_found_however_the_hello_is_cut() {
        let message = hello(&[(23, vec![]), sni(b"API.Example.com"), (43, vec![2, 3, 4])]);
        for size in [1, 5, 64, 16_000] {
            let bytes = records(&message, size);
            assert_eq!(spoken(&bytes), Spoken::Tls(domain("api.example.com")));
            for cut in 0..bytes.len() {
                assert_eq!(spoken(&bytes[..cut]), Spoken::More, "{cut} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn a_hello_that_can_be_read_twice_names_nothing() {
        for extensions in [
            vec![],
            vec![sni(b"a.com"), sni(b"b.com")],
            vec![sni(b"a.com\0.b.com")],
            vec![sni(b"93.184.216.34")],
            vec![sni(b"")],
            vec![(0, vec![0, 4, 1, 0, 1, b'a'])],
        ] {
            assert_eq!(spoken(&records(&hello(&extensions), 16_000)), Spoken::Tls(None));
        }
    }

    #[test]
    fn the_host_of_http_is_found() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: Example.com\r\n\r\n", domain("example.com")),
            ("GET / HTTP/1.1\r\nA: b\r\nHOST:example.com:8080\r\n\r\nbody", domain("example.com")),
            (
                "GET http://example.com/x HTTP/1.1\r\nHost: example.com\r\n\r\n",
                domain("example.com"),
            ),
            ("GET http://evil.com/x HTTP/1.1\r\nHost: example.com\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a.com\r\nHost: b.com\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a.com@b.com\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a.com\r\n b.com\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost : a.com\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nX: y\rHost: a.com\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nX: y\nHost: a.com\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", None),
            ("GET / HTTP/1.1\r\n\r\n", None),
            ("GET / HTTP/2.0\r\nHost: a.com\r\n\r\n", None),
        ] {
            assert_eq!(spoken(text.as_bytes()), Spoken::Http(expected), "{text:?}");
        }
        assert_eq!(spoken(b"GE"), Spoken::More);
        assert_eq!(spoken(b"GET / HTTP/1.1\r\nHost: a"), Spoken::More);
        assert_eq!(spoken(b"SSH-2.0-x\r\n"), Spoken::Other);
        assert_eq!(spoken(b"\x00\x01"), Spoken::Other);
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'a'; MOST]].concat();
        assert_eq!(spoken(&endless), Spoken::Http(None));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = spoken(&bytes);
            let _ = spoken(&[&[22, 3, 1, 2, 0, 1, 0, 1, 252], bytes.as_slice()].concat());
            let _ = spoken(&[b"GET / HTTP/1.1\r\n", bytes.as_slice(), b"\r\n\r\n"].concat());
        }
    }
}
