//! Secrets that a host sends back are masked before the sandbox sees them.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use soulbox_model::SecretValue;
use zeroize::Zeroizing;

/// Shorter values occur by chance.
const SHORTEST: usize = 6;
const MASK: u8 = b'*';

/// What to look for, on one exchange.
#[derive(Debug, Clone, Default)]
pub(super) struct Scrub {
    values: Vec<SecretValue>,
    /// What may be the beginning of a value whose rest has not come yet.
    held: BytesMut,
}

impl Scrub {
    pub(super) fn add(&mut self, value: SecretValue) {
        if value.expose().len() >= SHORTEST && !self.values.contains(&value) {
            self.values.push(value);
            // One may begin like another: the longer one first.
            self.values.sort_by_key(|value| std::cmp::Reverse(value.expose().len()));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Bytes that are held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Of names that tell a value nothing is kept: they have no case, and a mask might be another's name.
    pub(super) fn headers(&self, headers: &mut HeaderMap) {
        let told: Vec<_> = headers.keys().filter(|name| self.is_in(name)).cloned().collect();
        for name in told {
            headers.remove(name);
        }
        for value in headers.values_mut() {
            self.header(value);
        }
    }

    fn is_in(&self, name: &HeaderName) -> bool {
        self.values.iter().any(|value| {
            let lower = Zeroizing::new(value.expose().to_ascii_lowercase());
            name.as_str().contains(lower.as_str())
        })
    }

    pub(super) fn header(&self, value: &mut HeaderValue) {
        let mut bytes = BytesMut::from(value.as_bytes());
        if self.mask(&mut bytes)
            && let Ok(masked) = HeaderValue::from_maybe_shared(bytes.freeze())
        {
            *value = masked;
        }
    }

    /// Of a stream: what can be passed on after `part` came.
    ///
    /// What is held back, and so when it comes, depends on the values: a host that echoes while it
    /// streams tells whether a guess begins one.
    pub(super) fn part(&mut self, part: &[u8]) -> Bytes {
        self.held.extend_from_slice(part);
        let mut all = std::mem::take(&mut self.held);
        self.mask(&mut all);
        let keep = self.unfinished(&all);
        self.held = all.split_off(all.len() - keep);
        all.freeze()
    }

    /// What was held back, at the end.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    fn mask(&self, bytes: &mut BytesMut) -> bool {
        let mut found = false;
        for value in &self.values {
            let needle = value.expose().as_bytes();
            let places: Vec<usize> = memmem::find_iter(bytes, needle).collect();
            for at in places {
                bytes[at..at + needle.len()].fill(MASK);
                found = true;
            }
        }
        found
    }

    /// The length of the longest end of `bytes` that begins a value.
    fn unfinished(&self, bytes: &[u8]) -> usize {
        let longest = |value: &SecretValue| {
            let value = value.expose().as_bytes();
            let most = bytes.len().min(value.len() - 1);
            (1..=most).rev().find(|n| bytes.ends_with(&value[..*n])).unwrap_or(0)
        };
        self.values.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scrub(values: &[&str]) -> Scrub {
        let mut scrub = Scrub::default();
        for value in values {
            scrub.add(SecretValue::new((*value).to_owned()).unwrap());
        }
        scrub
    }

    #[test]
    fn headers_lose_values_and_keep_the_rest() {
        let mut value = HeaderValue::from_static("Bearer hunter22, x");
        scrub(&["hunter22"]).header(&mut value);
        assert_eq!(value, "Bearer ********, x");
        assert!(scrub(&["abc"]).is_empty(), "too short to look for");
    }

    #[test]
    fn headers_whose_name_tells_a_value_are_dropped() {
        let names = ["x-hunter22-y", "HUNTER22", "hunter2", "x-team"];
        let mut headers: HeaderMap = names
            .iter()
            .map(|name| (name.parse().unwrap(), HeaderValue::from_static("Hunter22")))
            .collect();
        scrub(&["Hunter22"]).headers(&mut headers);
        assert_eq!(headers.len(), 2);
        assert!(["hunter2", "x-team"].iter().all(|name| headers[*name] == "********"));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_no_value_passes(
            cuts in proptest::collection::vec(1_usize..9, 1..40),
            before in "[a-c]{0,20}", between in "[a-c]{0,5}",
        ) {
            let secret = "abcabcab";
            let text = format!("{before}{secret}{between}{secret}{before}");
            let mut scrub = scrub(&[secret]);
            let mut out = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                out.extend_from_slice(&scrub.part(part));
                rest = after;
            }
            out.extend_from_slice(&scrub.part(rest));
            out.extend_from_slice(&scrub.rest());
            prop_assert_eq!(out.len(), text.len());
            prop_assert!(memmem::find(&out, secret.as_bytes()).is_none());
        }
    }
}
