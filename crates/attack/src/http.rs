//! HTTP/1.1 by hand, because an attacker's requests are not those that a client library makes.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// The longest head of an answer that is read.
const MAX_HEAD: u64 = 1 << 20;
/// The largest body that is kept; what comes after is left unread.
const MAX_BODY: u64 = 64 << 20;

/// A request as it goes out, byte for byte.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
    timeout: Duration,
}

/// One whole answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// `target` goes out as it is.
    pub(crate) fn new(method: &str, target: impl AsRef<[u8]>) -> Self {
        let mut head = format!("{method} ").into_bytes();
        head.extend_from_slice(target.as_ref());
        head.extend_from_slice(b" HTTP/1.1\r\nConnection: close\r\n");
        Self { head, body: Vec::new(), timeout: Duration::from_secs(30) }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        self.head.extend_from_slice(value.as_ref());
        self.head.extend_from_slice(b"\r\n");
        self
    }

    pub(crate) fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", kind)
    }

    /// For the whole exchange.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it on a connection of its own and reads the answer whole.
    pub(crate) fn send(self, address: SocketAddr) -> io::Result<Answer> {
        let deadline = Instant::now() + self.timeout;
        let (mut answer, mut body) = self.open(address)?;
        let mut chunk = [0; 16 << 10];
        while (answer.body.len() as u64) < MAX_BODY {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            body.timeout(left)?;
            match body.read(&mut chunk)? {
                0 => break,
                read => answer.body.extend_from_slice(&chunk[..read]),
            }
        }
        Ok(answer)
    }

    /// Sends it and returns with the head; the body is still to be read.
    pub(crate) fn open(mut self, address: SocketAddr) -> io::Result<(Answer, Body)> {
        let mut rest = format!("Host: {address}\r\n");
        let _ = write!(rest, "Content-Length: {}\r\n\r\n", self.body.len());
        self.head.extend_from_slice(rest.as_bytes());
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        // A server may answer before it has read everything, and close.
        let sent = stream.write_all(&self.head).and_then(|()| stream.write_all(&self.body));
        let mut reader = BufReader::new(stream);
        match answer(&mut reader) {
            Ok((answer, framing)) => Ok((answer, Body { reader, framing })),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(u64),
    /// What is left of this chunk.
    Chunked(u64),
    Close,
    Done,
}

/// What follows the head of an answer.
#[derive(Debug)]
pub(crate) struct Body {
    reader: BufReader<TcpStream>,
    framing: Framing,
}

impl Body {
    /// For each read from now on.
    pub(crate) fn timeout(&self, timeout: Duration) -> io::Result<()> {
        self.reader.get_ref().set_read_timeout(Some(timeout.max(Duration::from_millis(1))))
    }

    /// Hangs up, which also wakes whoever reads.
    pub(crate) fn close(&self) {
        // Nothing is left to do for a connection that is gone already.
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunked(0) = self.framing {
            let size = chunk_size(&mut self.reader)?;
            self.framing = if size == 0 { Framing::Done } else { Framing::Chunked(size) };
        }
        let left = match self.framing {
            Framing::Done => return Ok(0),
            Framing::Close => return self.reader.read(buffer),
            Framing::Length(left) | Framing::Chunked(left) => left,
        };
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut buffer[..want])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = left - read as u64;
        self.framing = match self.framing {
            Framing::Chunked(_) => {
                if left == 0 {
                    line(&mut self.reader)?;
                }
                Framing::Chunked(left)
            }
            _ => Framing::Length(left),
        };
        Ok(read)
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(MAX_HEAD).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn chunk_size(reader: &mut impl BufRead) -> io::Result<u64> {
    let text = line(reader)?;
    let digits = text.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| io::Error::other(format!("chunk size `{text}`")))
}

fn answer(reader: &mut impl BufRead) -> io::Result<(Answer, Framing)> {
    loop {
        let first = line(reader)?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.ok_or_else(|| io::Error::other(format!("answer `{first}`")))?;
        let mut answer = Answer { status, ..Answer::default() };
        loop {
            let text = line(reader)?;
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(':').unwrap_or((&text, ""));
            answer.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let framing = if status == 204 || status == 304 {
            Framing::Done
        } else if answer.header("transfer-encoding").is_some() {
            Framing::Chunked(0)
        } else {
            match answer.header("content-length").and_then(|length| length.parse().ok()) {
                Some(length) => Framing::Length(length),
                None => Framing::Close,
            }
        };
        return Ok((answer, framing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(said: &'static [u8]) -> io::Result<Answer> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = [0; 1024];
            let read = stream.read(&mut heard).unwrap();
            stream.write_all(said).unwrap();
            heard[..read].to_vec()
        });
        let answer = Request::new("GET", b"/a\xff b").header("X", "y").send(address);
        let heard = server.join().unwrap();
        assert!(heard.starts_with(b"GET /a\xff b HTTP/1.1\r\nConnection: close\r\nX: y\r\n"));
        answer
    }

    #[test]
    fn every_framing_is_read() {
        let length = exchange(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\nA: b\r\n\r\nhi",
        )
        .unwrap();
        assert_eq!((length.status, length.text().as_str()), (404, "hi"));
        assert_eq!(length.header("a"), Some("b"));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n";
        assert_eq!(exchange(chunked).unwrap().text(), "abcd");
        assert_eq!(exchange(b"HTTP/1.1 200 OK\r\n\r\nall of it").unwrap().text(), "all of it");
    }

    #[test]
    fn what_is_cut_is_an_error() {
        assert!(exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi").is_err());
        assert!(exchange(b"nonsense\r\n\r\n").is_err());
        assert!(exchange(b"").is_err());
    }
}
