//! As much of DNS messages as a judging forwarder needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use soulbox_model::network::Domain;

pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;

/// Bytes of the fixed part.
const HEADER: usize = 12;

/// Kinds of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// Nothing of that type, or all is well.
    Fine = 0,
    Malformed = 1,
    ServerFailed = 2,
    NoSuchName = 3,
    Refused = 5,
}

/// A question: exactly one, of class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Domain,
    pub(super) kind: u16,
    /// The name as it was asked, whose case answers repeat.
    encoded: Vec<u8>,
}

/// Why a message is no question that can be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Too short to be answered.
    Noise,
    /// Answerable with this code.
    Bad(Code),
}

impl Question {
    pub(super) fn new(name: &Domain, kind: u16) -> Self {
        let mut encoded = Vec::with_capacity(name.as_str().len() + 2);
        for label in name.as_str().split('.') {
            encoded.push(label.len() as u8);
            encoded.extend(label.as_bytes());
        }
        encoded.push(0);
        Self { name: name.clone(), kind, encoded }
    }

    pub(super) fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let header = message.get(..HEADER).ok_or(Malformed::Noise)?;
        if header[2] & 0x80 != 0 {
            return Err(Malformed::Noise);
        }
        if header[2] & 0x78 != 0 || header[4..8] != [0, 1, 0, 0] {
            return Err(Malformed::Bad(Code::Malformed));
        }
        let bad = || Malformed::Bad(Code::Malformed);
        let (labels, end) = name(message, HEADER).ok_or_else(bad)?;
        let [k0, k1, c0, c1] =
            message.get(end..end + 4).and_then(|b| b.try_into().ok()).ok_or_else(bad)?;
        if [c0, c1] != [0, 1] {
            return Err(Malformed::Bad(Code::Refused));
        }
        let name = labels.parse().map_err(|_| Malformed::Bad(Code::NoSuchName))?;
        let encoded = message.get(HEADER..end).ok_or_else(bad)?.to_vec();
        Ok(Self { name, kind: u16::from_be_bytes([k0, k1]), encoded })
    }

    /// The message that asks it: nothing of what the sandbox sent beside name and type is in it.
    pub(super) fn ask(&self, id: u16) -> Vec<u8> {
        // Recursion desired; one question, and EDNS for answers of up to 1232 bytes.
        let mut message = id.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        message.extend(Self::new(&self.name, self.kind).encoded);
        message.extend(self.kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        message
    }

    /// An answer of ours without records, or with one address.
    pub(super) fn reply(&self, id: [u8; 2], code: Code, address: Option<IpAddr>) -> Vec<u8> {
        let mut message = id.to_vec();
        message.extend([0x81, 0x80 | code as u8, 0, 1, 0, u8::from(address.is_some())]);
        message.extend([0, 0, 0, 0]);
        message.extend(&self.encoded);
        message.extend(self.kind.to_be_bytes());
        message.extend([0, 1]);
        if let Some(address) = address {
            message.extend([0xc0, HEADER as u8]);
            message.extend(self.kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            match address {
                IpAddr::V4(v4) => {
                    message.extend([0, 4]);
                    message.extend(v4.octets());
                }
                IpAddr::V6(v6) => {
                    message.extend([0, 16]);
                    message.extend(v6.octets());
                }
            }
        }
        message
    }

    /// Whether `message` answers this question under `id`.
    pub(super) fn is_answered_by(&self, message: &[u8], id: u16) -> bool {
        let Some(header) = message.get(..HEADER) else { return false };
        if header[..2] != id.to_be_bytes() || header[2] & 0x80 == 0 || header[4..6] != [0, 1] {
            return false;
        }
        name(message, HEADER).is_some_and(|(asked, end)| {
            asked.eq_ignore_ascii_case(self.name.as_str())
                && message.get(end..end + 2) == Some(&self.kind.to_be_bytes())
        })
    }
}

/// An answer to a message whose question cannot be repeated.
pub(super) fn error(query: &[u8], code: Code) -> Option<Vec<u8>> {
    let id = query.get(..2)?;
    Some([id, &[0x81, 0x80 | code as u8, 0, 0, 0, 0, 0, 0, 0, 0]].concat())
}

/// Whether the answer did not fit and has to be asked for over TCP.
pub(super) fn is_cut(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 2 != 0)
}

/// The addresses among the answers, whatever chain of names leads to them.
pub(crate) fn addresses(message: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let _ = collect(message, &mut found);
    found
}

fn collect(message: &[u8], found: &mut Vec<IpAddr>) -> Option<()> {
    let count = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    let (_, end) = name(message, HEADER)?;
    let mut at = end + 4;
    for _ in 0..count.min(256) {
        let (_, end) = name(message, at)?;
        let fixed: [u8; 10] = message.get(end..end + 10)?.try_into().ok()?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = message.get(end + 10..end + 10 + length)?;
        match (u16::from_be_bytes([fixed[0], fixed[1]]), length) {
            (A, 4) => found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            (AAAA, 16) => found.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => {}
        }
        at = end + 10 + length;
    }
    Some(())
}

/// The name at `start`, with dots, and where it ends. Follows pointers backwards only, so it ends.
fn name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut before, mut end) = (start, start, None);
    let mut text = String::new();
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some((text, end.unwrap_or(at + 1))),
            1..=63 => {
                let label = message.get(at + 1..at + 1 + length)?;
                // A dot or a NUL within a label would make it another name in text.
                if !label.iter().all(|b| b.is_ascii_graphic() && *b != b'.') {
                    return None;
                }
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(std::str::from_utf8(label).ok()?);
                if text.len() > 253 {
                    return None;
                }
                at += 1 + length;
            }
            192.. => {
                let target = (length & 63) << 8 | usize::from(*message.get(at + 1)?);
                end = end.or(Some(at + 2));
                if target >= before {
                    return None;
                }
                (at, before) = (target, target);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str, kind: u16) -> Question {
        Question::new(&name.parse().unwrap(), kind)
    }

    #[test]
    fn only_name_and_type_of_a_question_go_on() {
        let asked = question("www.example.com", A);
        let mut smuggling = asked.ask(7);
        smuggling.extend(b"secret");
        let parsed = Question::parse(&smuggling).unwrap();
        assert_eq!(parsed, asked);
        assert_eq!(parsed.ask(9), asked.ask(9));
    }

    #[test]
    fn an_answer_belongs_to_its_question() {
        let asked = question("www.example.com", A);
        let reply = asked.reply(7_u16.to_be_bytes(), Code::Fine, Some([1, 2, 3, 4].into()));
        assert!(asked.is_answered_by(&reply, 7));
        assert!(!asked.is_answered_by(&reply, 8));
        assert!(!question("evil.example.com", A).is_answered_by(&reply, 7));
        assert!(!question("www.example.com", AAAA).is_answered_by(&reply, 7));
        assert_eq!(addresses(&reply), [IpAddr::from([1, 2, 3, 4])]);
    }

    #[test]
    fn what_is_no_question_is_not_passed_on() {
        let good = question("a.b", A).ask(1);
        assert_eq!(Question::parse(&good[..11]), Err(Malformed::Noise));
        let change = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            Question::parse(&bytes)
        };
        assert_eq!(change(2, 0x81), Err(Malformed::Noise), "an answer");
        assert_eq!(change(2, 0x29), Err(Malformed::Bad(Code::Malformed)), "an update");
        assert_eq!(change(5, 2), Err(Malformed::Bad(Code::Malformed)), "two questions");
        assert_eq!(change(13, b'.'), Err(Malformed::Bad(Code::Malformed)), "a dot in a label");
        assert_eq!(change(20, 3), Err(Malformed::Bad(Code::Refused)), "class CHAOS");
        assert_eq!(change(12, 192), Err(Malformed::Bad(Code::Malformed)), "a pointer to itself");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Question::parse(&bytes);
            let _ = addresses(&bytes);
            let _ = question("a.b", A).is_answered_by(&bytes, 0);
        }
    }
}
