//! Where a connection says that it goes: the server name of TLS, the host of HTTP.
//!
//! Works on the first bytes alone, allocates nothing until it found a name, and never reads beyond
//! what a length field and the buffer both grant.

use std::fmt;

use soulbox_model::network::Domain;

/// The most that is kept before a connection must have said where it goes, in bytes.
pub const MOST: usize = 16 * 1024;

/// What the first bytes tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// Not enough yet.
    More,
    /// A line that has not ended: a request of a method that few know, or no HTTP at all.
    Text,
    /// TLS; the name in lower case, if there is a valid one.
    Tls(Option<Domain>),
    /// HTTP; its host, if there is exactly one valid one.
    Http(Result<Domain, Unnamed>),
    /// Something else.
    Other,
}

/// Why it is not known which host a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// None, several, or none that is a name.
    Host,
    /// No end of its headers in as many bytes as are kept.
    Long,
    /// No end of its headers in as much time as there is.
    Late,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str(
                "its Host header does not name one host; use the host's name instead of its address, or \
                 add it to allowOut",
            ),
            Self::Long => write!(f, "its headers are longer than the {MOST} bytes that are read"),
            Self::Late => f.write_str("its headers did not come in time"),
            Self::Version => {
                f.write_str("without TLS, only HTTP/1.0 and HTTP/1.1 are read; use one of them")
            }
        }
    }
}

pub fn spoken(bytes: &[u8]) -> Spoken {
    match bytes {
        [] => Spoken::More,
        [22, ..] => tls(bytes),
        _ => http(bytes),
    }
}

/// What bytes tell after which nothing more is waited for.
pub fn unfinished(bytes: &[u8]) -> Spoken {
    match spoken(bytes) {
        Spoken::More if bytes.is_empty() => Spoken::Text,
        Spoken::More if bytes.first() == Some(&22) => Spoken::Tls(None),
        Spoken::More if bytes.len() < MOST => Spoken::Http(Err(Unnamed::Late)),
        Spoken::More => Spoken::Http(Err(Unnamed::Long)),
        known => known,
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
    // Servers skip empty lines before a request.
    let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let bytes = bytes.get(blank..).unwrap_or_default();
    let ended = bytes.iter().position(|b| *b == b'\n');
    let line = bytes.get(..ended.unwrap_or(bytes.len())).unwrap_or_default();
    if !is_request(line) {
        return match ended {
            Some(_) => Spoken::Other,
            None if METHODS.iter().any(|known| known.as_bytes().starts_with(line)) => Spoken::More,
            None if !may_be_request(line) => Spoken::Other,
            None if line.len() + blank >= MOST => Spoken::Http(Err(Unnamed::Long)),
            None => Spoken::Text,
        };
    }
    let strict = line.ends_with(b" HTTP/1.1\r") || line.ends_with(b" HTTP/1.0\r");
    if ended.is_some() && !strict {
        return Spoken::Http(Err(Unnamed::Version));
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        let whole = bytes.len() + blank >= MOST;
        return if whole { Spoken::Http(Err(Unnamed::Long)) } else { Spoken::More };
    };
    let head = bytes.get(line.len() + 1..end + 2).unwrap_or_default();
    Spoken::Http(host(head).filter(|host| agrees(line, host)).ok_or(Unnamed::Host))
}

/// Whether some server may take this line for a request: by its version, or by a method that needs none.
fn is_request(line: &[u8]) -> bool {
    let method = line.iter().position(|b| *b == b' ').and_then(|end| line.get(..end));
    let versioned = |six: &[u8]| six[..5].eq_ignore_ascii_case(b"http/") && six[5].is_ascii_digit();
    method.is_some_and(|method| METHODS.iter().any(|known| known.as_bytes() == method))
        || line.windows(6).any(versioned)
}

/// Whether a line that begins so may still become a request: its first word is a token.
fn may_be_request(line: &[u8]) -> bool {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    // What the most lenient of servers takes for a blank.
    let blank = |b: &u8| matches!(b, 9..=13 | 28..=32 | 0x85 | 0xa0);
    line.iter().take_while(|b| !blank(b)).all(token)
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
            ("BREW /x HTTP/1.1\r\nHost: a.com\r\n\r\n", domain("a.com")),
            ("get /x HTTP/1.0\r\nHost: a.com\r\n\r\n", domain("a.com")),
            ("\r\n\n\rGET / HTTP/1.1\r\nHost: a.com\r\n\r\n", domain("a.com")),
        ] {
            let expected = expected.ok_or(Unnamed::Host);
            assert_eq!(spoken(text.as_bytes()), Spoken::Http(expected), "{text:?}");
        }
        assert_eq!(spoken(b"GE"), Spoken::More);
        assert_eq!(spoken(b"GET / HTTP/1.1\r\nHost: a"), Spoken::More);
        assert_eq!(spoken(b"SSH-2.0-x\r\n"), Spoken::Other);
        assert_eq!(spoken(b"\x00\x01"), Spoken::Other);
        for begun in ["GET / HTTP/1.1\r\nX: ", "GET /", "BREW /", "aaa"] {
            let endless = [begun.as_bytes(), &vec![b'a'; MOST]].concat();
            assert_eq!(spoken(&endless), Spoken::Http(Err(Unnamed::Long)), "{begun:?}");
        }
    }

    #[test]
    fn what_some_server_takes_for_a_request_is_one() {
        for text in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a.com\r\n\r\n",
            "GET /\r\n",
            "BREW / HTTP/1.1\nHost: a.com\n\n",
            "BREW\t/\tHTTP/1.1\r\n",
            " BREW / http/1.1 \r\n",
        ] {
            assert_eq!(spoken(text.as_bytes()), Spoken::Http(Err(Unnamed::Version)), "{text:?}");
        }
        for (text, expected) in [
            ("BR", Spoken::Text),
            ("BREW /evil HT", Spoken::Text),
            ("BREW /evil HTTP/1", Spoken::More),
            ("GET\x0b/evil", Spoken::Text),
            ("\r\n", Spoken::More),
            ("EHLO a.com\r\n", Spoken::Other),
            ("*1\r\n$4\r\nPING\r\n", Spoken::Other),
            ("(binary)", Spoken::Other),
        ] {
            assert_eq!(spoken(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_does_not_come_whole_names_nothing() {
        for (bytes, expected) in [
            (b"".as_slice(), Spoken::Text),
            (b"hello", Spoken::Text),
            (b"\x16\x03\x01", Spoken::Tls(None)),
            (b"GET / HTTP/1.1\r\nHost: a.com\r\n", Spoken::Http(Err(Unnamed::Late))),
            (b"SSH-2.0-x\r\n", Spoken::Other),
        ] {
            assert_eq!(unfinished(bytes), expected, "{bytes:?}");
        }
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
