//! Splits a multipart body into its parts without copying what is in them.
//!
//! A delimiter is a line break, `--` and the boundary. A line break starts with CR, and no boundary
//! has a CR in it: so at the end of a piece of input at most one beginning of a delimiter is open, and
//! it suffices to remember how long it is.

use bytes::{Buf, Bytes};
use memchr::{memmem, memrchr};

/// The longest boundary, in bytes; RFC 2046 allows 70.
const MAX_BOUNDARY: usize = 200;
/// The longest head of a part, in bytes: a path of any length fits.
const MAX_HEAD: usize = 32 * 1024;
/// The longest line after a delimiter, in bytes; it consists of spaces.
const MAX_PADDING: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid multipart body: {0}")]
pub struct Malformed(&'static str);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Start(Head),
    /// Never empty.
    Data(Bytes),
    End,
}

/// What a part says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    pub name: Option<String>,
    /// With its directories.
    pub filename: Option<String>,
}

#[derive(Debug)]
pub struct Splitter {
    delimiter: Vec<u8>,
    finder: memmem::Finder<'static>,
    input: Bytes,
    /// How much of a delimiter the input before this one ended with.
    matched: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Before the first delimiter, or in a part.
    Content {
        in_part: bool,
    },
    /// Behind a delimiter, if what follows makes it one.
    Line {
        in_part: bool,
        line: Vec<u8>,
    },
    Head(Vec<u8>),
    Epilogue,
}

impl Splitter {
    /// For the value of a `Content-Type` header.
    pub fn new(content_type: &str) -> Result<Self, Malformed> {
        let boundary = parameters(content_type)
            .find_map(|(key, value)| (key == "boundary").then_some(value))
            .ok_or(Malformed("no boundary in Content-Type"))?;
        if boundary.is_empty()
            || boundary.len() > MAX_BOUNDARY
            || boundary.chars().any(char::is_control)
        {
            return Err(Malformed("bad boundary in Content-Type"));
        }
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Ok(Self {
            finder: memmem::Finder::new(&delimiter).into_owned(),
            delimiter,
            input: Bytes::new(),
            // The first delimiter needs no line break before it.
            matched: 2,
            state: State::Content { in_part: false },
        })
    }

    /// Gives more input. To be called when [`Self::next`] has nothing more to say.
    pub fn feed(&mut self, input: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = input;
    }

    /// Says that there is no more input.
    pub fn finish(&self) -> Result<(), Malformed> {
        match self.state {
            State::Epilogue => Ok(()),
            _ => Err(Malformed("it ends before its last boundary")),
        }
    }

    /// What comes next; `None` until there is more input.
    #[expect(clippy::should_implement_trait, reason = "`None` does not mean the end")]
    pub fn next(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            if self.input.is_empty() {
                return Ok(None);
            }
            match &mut self.state {
                State::Content { in_part } => {
                    let in_part = *in_part;
                    match self.scan() {
                        Scanned::Data(data) if in_part => return Ok(Some(Event::Data(data))),
                        Scanned::Data(_) | Scanned::Nothing => {}
                        Scanned::Delimiter => {
                            self.state = State::Line { in_part, line: Vec::new() };
                        }
                    }
                }
                State::Line { in_part, line } => {
                    let in_part = *in_part;
                    line.push(self.input.get_u8());
                    match Line::of(line)? {
                        Line::Open => {}
                        Line::Next => self.state = State::Head(b"\r\n".to_vec()),
                        Line::Last => self.state = State::Epilogue,
                        Line::Other => {
                            let data = [self.delimiter.as_slice(), line].concat();
                            self.state = State::Content { in_part };
                            if in_part {
                                return Ok(Some(Event::Data(data.into())));
                            }
                            continue;
                        }
                    }
                    if in_part && !matches!(self.state, State::Line { .. }) {
                        return Ok(Some(Event::End));
                    }
                }
                State::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(&self.input);
                    let from = before.saturating_sub(3);
                    let Some(end) = memmem::find(&head[from..], b"\r\n\r\n") else {
                        if head.len() > MAX_HEAD {
                            return Err(Malformed("the head of a part is too long"));
                        }
                        self.input.clear();
                        continue;
                    };
                    let end = from + end;
                    self.input.advance(end + 4 - before);
                    let parsed = Head::parse(&head[..end])?;
                    self.state = State::Content { in_part: true };
                    return Ok(Some(Event::Start(parsed)));
                }
                State::Epilogue => self.input.clear(),
            }
        }
    }

    fn scan(&mut self) -> Scanned {
        if self.matched > 0 {
            let open = &self.delimiter[self.matched..];
            let length = open.len().min(self.input.len());
            if self.input[..length] != open[..length] {
                let data = Bytes::copy_from_slice(&self.delimiter[..self.matched]);
                self.matched = 0;
                return Scanned::Data(data);
            }
            self.input.advance(length);
            self.matched += length;
            if self.matched < self.delimiter.len() {
                return Scanned::Nothing;
            }
            self.matched = 0;
            return Scanned::Delimiter;
        }
        match self.finder.find(&self.input) {
            Some(0) => {
                self.input.advance(self.delimiter.len());
                Scanned::Delimiter
            }
            Some(at) => Scanned::Data(self.input.split_to(at)),
            None => {
                let tail = self.input.len().saturating_sub(self.delimiter.len() - 1);
                let open = memrchr(b'\r', &self.input[tail..])
                    .map(|at| tail + at)
                    .filter(|at| self.delimiter.starts_with(&self.input[*at..]))
                    .unwrap_or(self.input.len());
                let data = self.input.split_to(open);
                self.matched = self.input.len();
                self.input.clear();
                if data.is_empty() { Scanned::Nothing } else { Scanned::Data(data) }
            }
        }
    }
}

enum Scanned {
    Data(Bytes),
    Delimiter,
    Nothing,
}

/// What the text behind a delimiter makes of it.
enum Line {
    /// Needs more.
    Open,
    /// A part follows.
    Next,
    /// That was the last part.
    Last,
    /// No delimiter at all: the boundary is the beginning of something longer.
    Other,
}

impl Line {
    fn of(line: &[u8]) -> Result<Self, Malformed> {
        match line {
            b"--" => return Ok(Self::Last),
            b"-" => return Ok(Self::Open),
            _ => {}
        }
        let padding = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match &line[padding..] {
            b"\r\n" => Ok(Self::Next),
            b"" | b"\r" if padding <= MAX_PADDING => Ok(Self::Open),
            b"" | b"\r" => Err(Malformed("a boundary is followed by too many spaces")),
            _ => Ok(Self::Other),
        }
    }
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self, Malformed> {
        let head =
            std::str::from_utf8(head).map_err(|_| Malformed("the head of a part is no UTF-8"))?;
        let mut parsed = Self::default();
        let disposition = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
        });
        let mut extended = None;
        for (key, value) in parameters(disposition.unwrap_or_default()) {
            match key.as_str() {
                "name" => drop(parsed.name.get_or_insert(value)),
                "filename" => drop(parsed.filename.get_or_insert(value)),
                "filename*" => extended = decode_extended(&value),
                _ => {}
            }
        }
        parsed.filename = parsed.filename.or(extended);
        Ok(parsed)
    }
}

/// RFC 5987: `utf-8'<language>'<percent-encoded>`.
fn decode_extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    percent_encoding::percent_decode_str(encoded).decode_utf8().ok().map(|text| text.into_owned())
}

/// The parameters behind the first `;` of a header value, with keys in lower case.
fn parameters(value: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        loop {
            let (key, value) = rest.trim_start().split_once('=')?;
            // A parameter without a value stands before this one.
            let key = key.rsplit(';').next().unwrap_or(key).trim().to_ascii_lowercase();
            let (value, behind) = match value.trim_start().strip_prefix('"') {
                Some(quoted) => unquote(quoted),
                None => {
                    let (value, behind) = value.split_once(';').unwrap_or((value, ""));
                    (value.trim().to_owned(), behind)
                }
            };
            rest = behind.trim_start().strip_prefix(';').unwrap_or(behind);
            if !key.is_empty() {
                return Some((key, value));
            }
        }
    })
}

/// The text up to the closing quote, and what is behind it.
///
/// A backslash escapes only what needs it: some clients escape it by another, and some not at all.
fn unquote(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut letters = quoted.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (text, &quoted[at + 1..]),
            '\\' => match letters.peek() {
                Some((_, next)) if "()<>@,;:\\\"/[]?=".contains(*next) => {
                    text.push(*next);
                    letters.next();
                }
                _ => text.push('\\'),
            },
            letter => text.push(letter),
        }
    }
    // Never closed: a last backslash stood for itself.
    (quoted.strip_suffix('"').unwrap_or(quoted).to_owned(), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a body that comes in pieces of `step` bytes; parts as (head, content).
    fn split(body: &[u8], step: usize) -> Result<Vec<(Head, Vec<u8>)>, Malformed> {
        let mut splitter = Splitter::new("multipart/form-data; boundary=XX")?;
        let mut parts = Vec::new();
        let mut open = false;
        for piece in body.chunks(step) {
            splitter.feed(Bytes::copy_from_slice(piece));
            while let Some(event) = splitter.next()? {
                match event {
                    Event::Start(head) => {
                        assert!(!open);
                        open = true;
                        parts.push((head, Vec::new()));
                    }
                    Event::Data(data) => {
                        assert!(open && !data.is_empty());
                        parts.last_mut().unwrap().1.extend_from_slice(&data);
                    }
                    Event::End => {
                        assert!(open);
                        open = false;
                    }
                }
            }
        }
        splitter.finish()?;
        assert!(!open);
        Ok(parts)
    }

    fn contents(body: &[u8], step: usize) -> Vec<Vec<u8>> {
        split(body, step).unwrap().into_iter().map(|part| part.1).collect()
    }

    #[test]
    fn parts_are_the_same_however_they_are_cut() {
        let body = b"preamble\r\n--XX \t\r\nContent-Disposition: form-data; name=\"file\"; \
            filename=\"/a b\"\r\nX: y\r\n\r\none\r\n--X\r\n--XXY\r\n\r\n-\r\r\n--XX\r\n\r\n\
            \r\n--XX\r\nA: b\r\n\r\n\r\r\n--XX--\r\nepilogue --XX";
        for step in 1..=body.len() {
            let parts = split(body, step).unwrap();
            let found: Vec<_> = parts.iter().map(|part| part.1.as_slice()).collect();
            assert_eq!(found, [&b"one\r\n--X\r\n--XXY\r\n\r\n-\r"[..], b"", b"\r"], "{step}");
            assert_eq!(parts[0].0.name.as_deref(), Some("file"));
            assert_eq!(parts[0].0.filename.as_deref(), Some("/a b"));
            assert_eq!(parts[1].0, Head::default());
        }
        assert_eq!(contents(b"--XX\r\n\r\nfirst\r\n--XX--", 3), [b"first"]);
        assert!(contents(b"--XX--", 1).is_empty());
    }

    #[test]
    fn what_is_no_multipart_is_refused() {
        let long = format!("--XX\r\nX: {}", "y".repeat(40_000));
        for broken in [
            &b""[..],
            b"no boundary",
            b"--XX\r\n\r\nhalf",
            b"--XX\r\n\r\nhalf\r\n--XX",
            b"--XX\r\n\r\nhalf\r\n--XX-",
            b"--XX\r\nContent-Disposition: form-data; name=\xff\r\n\r\n\r\n--XX--",
            long.as_bytes(),
        ] {
            assert!(split(broken, 5).is_err(), "{}", String::from_utf8_lossy(broken));
        }
        for content_type in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"a\u{7}b\"",
            &format!("multipart/form-data; boundary={}", "x".repeat(300)),
        ] {
            assert!(Splitter::new(content_type).is_err(), "{content_type}");
        }
    }

    #[test]
    fn names_as_clients_write_them() {
        let name = |value: &str| {
            let head = format!("\r\ncontent-disposition: form-data; {value}");
            Head::parse(head.as_bytes()).unwrap().filename
        };
        for (value, expected) in [
            ("name=\"file\"; filename=\"/dir/ä.txt\"", "/dir/ä.txt"),
            ("filename=\"a\\\\b\"", "a\\b"),
            ("filename=\"a\\b\"", "a\\b"),
            ("filename=\"a\\\"b\"", "a\"b"),
            ("filename=\"a%22b;c\"; name=file", "a%22b;c"),
            ("filename=plain.txt; x", "plain.txt"),
            ("FileName=\"x\"", "x"),
            ("filename=\"ends with \\\"", "ends with \\"),
            ("filename*=UTF-8''%C3%A4", "ä"),
            ("filename=\"x\"; filename*=UTF-8''y", "x"),
        ] {
            assert_eq!(name(value).as_deref(), Some(expected), "{value}");
        }
        assert_eq!(name("name=\"file\""), None);
    }

    #[test]
    fn boundaries_may_be_quoted() {
        let splitter =
            Splitter::new("multipart/form-data; charset=utf-8; Boundary=\"a b\"").unwrap();
        assert_eq!(splitter.delimiter, b"\r\n--a b");
    }
}
