//! As much of DNS messages as a judging forwarder needs.

use std::net::IpAddr;

use soulbox_model::network::Domain;

use super::records::{self, Broken};

pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;

/// Bytes of the fixed part.
pub(super) const HEADER: usize = 12;
/// How long an answer over UDP may be for who does not speak EDNS, in bytes.
const PLAIN_ROOM: usize = 512;
/// The longest answer over UDP that is passed on or taken, in bytes.
pub(super) const LONGEST_DATAGRAM: usize = 4096;
/// The flag of an answer that did not fit.
const CUT: u8 = 2;

/// What carries a question and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    Tcp,
}

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
    /// How long an answer over UDP may be, from who speaks EDNS.
    edns: Option<u16>,
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
        Self { name: name.clone(), kind, encoded, edns: None }
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
        let edns = records::edns(message).map_err(|Broken| bad())?.map(|edns| edns.room);
        Ok(Self { name, kind: u16::from_be_bytes([k0, k1]), encoded, edns })
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
        let end = HEADER + self.encoded.len();
        let [k0, k1] = self.kind.to_be_bytes();
        message.get(HEADER..end).is_some_and(|name| name.eq_ignore_ascii_case(&self.encoded))
            && message.get(end..end + 4) == Some(&[k0, k1, 0, 1])
    }

    /// The answer to this question that came from outside, as the one who asks can take it: under its
    /// id and in its spelling, with EDNS only if it speaks that, over UDP no longer than it said. What
    /// is longer becomes a word to come again over TCP.
    pub(super) fn pass_on(&self, mut answer: Vec<u8>, id: [u8; 2], over: Over) -> Vec<u8> {
        let end = HEADER + self.encoded.len();
        answer[..2].copy_from_slice(&id);
        answer[HEADER..end].copy_from_slice(&self.encoded);
        if self.edns.is_none()
            && let Ok(Some(edns)) = records::edns(&answer)
        {
            edns.take_out(&mut answer);
        }
        let said = self.edns.map_or(0, usize::from);
        let room = said.clamp(PLAIN_ROOM, LONGEST_DATAGRAM);
        if over == Over::Udp && answer.len() > room {
            answer.truncate(end + 4);
            answer[2] |= CUT;
            answer[6..HEADER].fill(0);
        }
        answer
    }
}

/// An answer to a message whose question cannot be repeated.
pub(super) fn error(query: &[u8], code: Code) -> Option<Vec<u8>> {
    let id = query.get(..2)?;
    Some([id, &[0x81, 0x80 | code as u8, 0, 0, 0, 0, 0, 0, 0, 0]].concat())
}

/// Whether the answer did not fit and has to be asked for over TCP.
pub(super) fn is_cut(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & CUT != 0)
}

/// What an answer says instead of how it is with the name.
pub(super) fn failure(message: &[u8]) -> Option<String> {
    const FINE: u8 = Code::Fine as u8;
    const NO_SUCH_NAME: u8 = Code::NoSuchName as u8;
    const SERVER_FAILED: u8 = Code::ServerFailed as u8;
    const REFUSED: u8 = Code::Refused as u8;
    match message.get(3)? & 15 {
        FINE | NO_SUCH_NAME => None,
        SERVER_FAILED => Some("SERVFAIL".to_owned()),
        REFUSED => Some("REFUSED".to_owned()),
        code => Some(format!("code {code}")),
    }
}

/// The name at `start`, with dots, and where it ends. In a question nothing is there to point to.
fn name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let mut at = start;
    let mut text = String::new();
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            return Some((text, at + 1));
        }
        if length > 63 {
            return None;
        }
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
        assert_eq!((&parsed.name, parsed.kind), (&asked.name, A));
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
        assert_eq!(records::addresses(&reply), [IpAddr::from([1, 2, 3, 4])]);
    }

    /// A question as a program may ask it: in its own spelling, with EDNS or without.
    fn asked(room: Option<u16>) -> Question {
        let mut query = question("www.example.com", A).ask(7);
        query[13] = b'W';
        match room {
            Some(room) => query[36..38].copy_from_slice(&room.to_be_bytes()),
            None => {
                query.truncate(33);
                query[11] = 0;
            }
        }
        Question::parse(&query).unwrap()
    }

    /// An answer from outside of this length: one record, and the EDNS of who sent it.
    fn from_outside(length: usize) -> Vec<u8> {
        let mut answer = question("www.example.com", A).ask(9);
        (answer[2], answer[3], answer[7]) = (0x85, 0x80, 1);
        let edns = answer.split_off(33);
        let data = length - 33 - 12 - edns.len();
        answer.extend([0xc0, HEADER as u8, 0, 16, 0, 1, 0, 0, 0, 9]);
        answer.extend((data as u16).to_be_bytes());
        answer.resize(answer.len() + data, b'x');
        [answer, edns].concat()
    }

    #[test]
    fn an_answer_is_as_long_as_who_asks_can_take() {
        let longest = |room, over| {
            let whole = |length: &usize| {
                let asked = asked(room);
                let answer = asked.pass_on(from_outside(*length), [1, 2], over);
                assert_eq!(answer[..2], [1, 2]);
                assert_eq!(answer[HEADER..][..4], *b"\x03Www");
                assert_eq!(
                    records::edns(&answer).unwrap().is_some(),
                    room.is_some() && !is_cut(&answer)
                );
                if is_cut(&answer) {
                    let mut alone = asked.reply([1, 2], Code::Fine, None);
                    alone[2] = 0x87;
                    assert_eq!(answer, alone, "the question alone");
                }
                !is_cut(&answer)
            };
            (500..5000).filter(whole).max().unwrap()
        };
        let edns = 11;
        assert_eq!(longest(None, Over::Udp), 512 + edns, "which is taken out");
        assert_eq!(longest(Some(0), Over::Udp), 512);
        assert_eq!(longest(Some(1232), Over::Udp), 1232);
        assert_eq!(longest(Some(4096), Over::Udp), 4096);
        assert_eq!(longest(Some(65535), Over::Udp), 4096);
        assert_eq!(longest(None, Over::Tcp), 4999);
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
        assert_eq!(change(12, 192), Err(Malformed::Bad(Code::Malformed)), "a pointer");
        assert_eq!(
            change(11, 2),
            Err(Malformed::Bad(Code::Malformed)),
            "records that are not there"
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Question::parse(&bytes);
            let _ = question("a.b", A).is_answered_by(&bytes, 0);
        }

        #[test]
        fn whatever_answers_can_be_passed_on(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let asked = asked(None);
            let mut answer = asked.reply([0, 1], Code::Fine, None);
            answer.extend(&bytes);
            answer[6..HEADER].fill(u8::from(bytes.len() % 2 == 0));
            prop_assert!(asked.is_answered_by(&answer, 1));
            prop_assert!(asked.pass_on(answer, [1, 2], Over::Udp).len() <= PLAIN_ROOM);
        }
    }
}
