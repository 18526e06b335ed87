//! The records of a message, as they lie in it. Who wrote them may have meant harm.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{A, AAAA, HEADER};

/// Of EDNS.
const OPT: u16 = 41;

/// A message whose records do not lie as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

struct Record<'a> {
    kind: u16,
    class: u16,
    data: &'a [u8],
}

struct Records<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// Those that follow the one question of a message.
    fn of(message: &'a [u8]) -> Option<Self> {
        Some(Self { message, at: skip(message, HEADER)? + 4 })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let end = skip(self.message, self.at)?;
        let fixed: [u8; 10] = self.message.get(end..end + 10)?.try_into().ok()?;
        let [k0, k1, c0, c1, _, _, _, _, l0, l1] = fixed;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let data = self.message.get(end + 10..end + 10 + length)?;
        self.at = end + 10 + length;
        Some(Record {
            kind: u16::from_be_bytes([k0, k1]),
            class: u16::from_be_bytes([c0, c1]),
            data,
        })
    }
}

/// Where the name at `at` ends.
fn skip(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + length,
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// How many records the three parts of a message have.
fn counts(message: &[u8]) -> Option<[u16; 3]> {
    let [a0, a1, n0, n1, r0, r1] = message.get(6..HEADER)?.try_into().ok()?;
    Some([[a0, a1], [n0, n1], [r0, r1]].map(u16::from_be_bytes))
}

/// The addresses among the answers, whatever chain of names leads to them.
pub(crate) fn addresses(message: &[u8]) -> Vec<IpAddr> {
    let Some(([answers, _, _], records)) = counts(message).zip(Records::of(message)) else {
        return Vec::new();
    };
    let address = |record: Record<'_>| match record.kind {
        A => <[u8; 4]>::try_from(record.data).ok().map(|v4| Ipv4Addr::from(v4).into()),
        AAAA => <[u8; 16]>::try_from(record.data).ok().map(|v6| Ipv6Addr::from(v6).into()),
        _ => None,
    };
    records.take(usize::from(answers.min(256))).filter_map(address).collect()
}

/// What a message says of EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    /// How long an answer over UDP may be, in bytes.
    pub(super) room: u16,
    /// Where its record begins.
    start: usize,
    /// How many additional records come before it.
    before: u16,
}

impl Edns {
    /// Takes it out of its message, with the additional records after it: those may point to each
    /// other, and no answer is wrong without them.
    pub(super) fn take_out(self, message: &mut Vec<u8>) {
        message.truncate(self.start);
        if let Some(additional) = message.get_mut(10..HEADER) {
            additional.copy_from_slice(&self.before.to_be_bytes());
        }
    }
}

/// Walks all records of a message.
///
/// # Errors
/// If they are not all there.
pub(super) fn edns(message: &[u8]) -> Result<Option<Edns>, Broken> {
    let [answers, authorities, additional] = counts(message).ok_or(Broken)?;
    let mut records = Records::of(message).ok_or(Broken)?;
    for _ in 0..u32::from(answers) + u32::from(authorities) {
        records.next().ok_or(Broken)?;
    }
    let mut found = None;
    for before in 0..additional {
        let start = records.at;
        let record = records.next().ok_or(Broken)?;
        if record.kind == OPT && found.is_none() {
            found = Some(Edns { room: record.class, start, before });
        }
    }
    // The question itself may be cut off where nothing follows.
    if records.at <= message.len() { Ok(found) } else { Err(Broken) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer to `a.`, with records of these kinds as its additional ones.
    fn with(additional: &[u16]) -> Vec<u8> {
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, additional.len() as u8];
        message.extend([1, b'a', 0, 0, 1, 0, 1]);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4]);
        for kind in additional {
            message
                .extend([&[0], &kind.to_be_bytes()[..], &[4, 208, 0, 0, 0, 0, 0, 1, 7]].concat());
        }
        message
    }

    #[test]
    fn edns_is_found_and_taken_out_wherever_it_is() {
        assert_eq!(edns(&with(&[])), Ok(None));
        for additional in [&[OPT][..], &[16, OPT], &[16, OPT, 16, OPT]] {
            let mut message = with(additional);
            let found = edns(&message).unwrap().unwrap();
            assert_eq!(found.room, 1232);
            found.take_out(&mut message);
            let before = additional.iter().position(|kind| *kind == OPT).unwrap();
            assert_eq!(message, with(&additional[..before]));
            assert_eq!(addresses(&message), [IpAddr::from([1, 2, 3, 4])]);
        }
    }

    #[test]
    fn a_message_that_ends_early_is_broken() {
        let message = with(&[16, OPT]);
        for length in 0..message.len() {
            assert_eq!(edns(&message[..length]), Err(Broken), "{length}");
        }
        let mut many = message;
        many[6] = 255;
        assert_eq!(edns(&many), Err(Broken));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = addresses(&bytes);
            if let Ok(Some(found)) = edns(&bytes) {
                found.take_out(&mut bytes);
                prop_assert_eq!(edns(&bytes), Ok(None));
            }
        }
    }
}
