//! Query strings. Arrays are comma-joined, and unknown keys are ignored.

use std::{collections::BTreeMap, ops::RangeInclusive};

use axum::extract::FromRequestParts;
use chrono::{DateTime, TimeZone, Utc};
use http::request::Parts;

use crate::App;
use crate::problem::{Problem, Result};

/// More pairs than any route knows.
const MAX_PAIRS: usize = 64;

/// The decoded pairs of a query string.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl FromRequestParts<App> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    /// # Errors
    /// Bad escapes, bytes that are not UTF-8, too many pairs.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Problem::invalid("query", "not a valid query string");
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_PAIRS {
                return Err(Problem::invalid("query", "too many parameters"));
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((unescape(key).ok_or_else(bad)?, unescape(value).ok_or_else(bad)?));
        }
        Ok(Self(pairs))
    }

    /// The value of `key`; an empty one counts as absent.
    ///
    /// # Errors
    /// The key is there more than once.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        let mut values = self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::invalid(key, "given more than once"));
        }
        Ok(first.map(String::as_str).filter(|value| !value.is_empty()))
    }

    pub fn integer(&self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        text.parse().ok().filter(|number| range.contains(number)).map(Some).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            Problem::invalid(key, format!("must be a whole number from {low} to {high}"))
        })
    }

    /// Comma-joined, or the key repeated.
    pub fn list(&self, key: &str) -> Option<Vec<&str>> {
        let mut given = self.0.iter().filter(|(name, _)| name == key).peekable();
        given.peek()?;
        let parts = given.flat_map(|(_, value)| value.split(','));
        Some(parts.filter(|part| !part.is_empty()).collect())
    }

    /// RFC 3339 with zone.
    pub fn date(&self, key: &str) -> Result<Option<DateTime<Utc>>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        // A client that forgets to escape the `+` of a zone sends a blank.
        DateTime::parse_from_rfc3339(&text.replace(' ', "+"))
            .map(|date| Some(date.to_utc()))
            .map_err(|_| Problem::invalid(key, "must be a date and time as in RFC 3339"))
    }

    /// Whole seconds since 1970.
    pub fn unix_seconds(&self, key: &str) -> Result<Option<DateTime<Utc>>> {
        let Some(number) = self.integer(key, 0..=i64::MAX)? else { return Ok(None) };
        Utc.timestamp_opt(number, 0)
            .single()
            .map(Some)
            .ok_or_else(|| Problem::invalid(key, "is too far in the future"))
    }

    /// Whole milliseconds since 1970.
    pub fn unix_millis(&self, key: &str) -> Result<Option<DateTime<Utc>>> {
        let Some(number) = self.integer(key, 0..=i64::MAX)? else { return Ok(None) };
        Utc.timestamp_millis_opt(number)
            .single()
            .map(Some)
            .ok_or_else(|| Problem::invalid(key, "is too far in the future"))
    }

    /// The `metadata` filter: `k=v&k2=v2`, with keys and values still escaped.
    ///
    /// Clients escape keys and values, then join and escape the pairs, then the whole parameter;
    /// [`Query::parse`] undid the outermost.
    pub fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let Some(given) = self.text("metadata")? else { return Ok(BTreeMap::new()) };
        let bad =
            || Problem::invalid("metadata", "must be `key=value` pairs joined by `&`, escaped");
        let mut pairs = BTreeMap::new();
        let joined = unescape(given).ok_or_else(bad)?;
        for pair in joined.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(bad)?;
            if value.contains('=') {
                return Err(bad());
            }
            pairs.insert(unescape(key).ok_or_else(bad)?, unescape(value).ok_or_else(bad)?);
        }
        Ok(pairs)
    }
}

/// Undoes form escaping; `None` for a broken escape or what is not UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    /// What `encodeURIComponent` and Python's `quote` leave alone.
    const COMPONENT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

    fn escape(text: &str) -> String {
        utf8_percent_encode(text, COMPONENT).to_string()
    }

    fn as_clients_write(pairs: &BTreeMap<String, String>) -> String {
        let joined: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{}={}", escape(&escape(key)), escape(&escape(value))))
            .collect();
        format!("metadata={}", escape(&joined.join("&")))
    }

    #[test]
    fn numbers_have_bounds() {
        let query = Query::parse("limit=7&zero=0&word=x&many=101&neg=-1&empty=").unwrap();
        assert_eq!(query.integer("limit", 1..=100).unwrap(), Some(7));
        assert_eq!(query.integer("empty", 1..=100).unwrap(), None);
        assert_eq!(query.integer("absent", 1..=100).unwrap(), None);
        for bad in ["zero", "word", "many", "neg"] {
            assert_eq!(query.integer(bad, 1..=100).unwrap_err().status(), 400, "{bad}");
        }
    }

    #[test]
    fn lists_are_joined_by_commas_escaped_or_not() {
        for text in ["state=running,paused", "state=running%2Cpaused", "state=running&state=paused"]
        {
            let query = Query::parse(text).unwrap();
            assert_eq!(query.list("state"), Some(vec!["running", "paused"]), "{text}");
        }
        assert_eq!(Query::parse("").unwrap().list("state"), None);
    }

    #[test]
    fn a_scalar_given_twice_is_refused() {
        assert!(Query::parse("limit=1&limit=2").unwrap().text("limit").is_err());
    }

    #[test]
    fn dates_take_a_zone() {
        let query = Query::parse("a=2026-01-02T03:04:05Z&b=2026-01-02T03:04:05+01:00&c=2026-01-02")
            .unwrap();
        assert_eq!(query.date("a").unwrap().unwrap().timestamp(), 1_767_323_045);
        assert_eq!(query.date("b").unwrap().unwrap().timestamp(), 1_767_319_445);
        assert!(query.date("c").is_err());
    }

    #[test]
    fn the_cli_escapes_metadata_once() {
        let query = Query::parse("metadata=a%3Db%26c%3Dd&state=paused").unwrap();
        let expected: BTreeMap<String, String> =
            [("a", "b"), ("c", "d")].map(|(k, v)| (k.into(), v.into())).into();
        assert_eq!(query.metadata().unwrap(), expected);
    }

    #[test]
    fn broken_metadata_is_refused() {
        for bad in ["metadata=a", "metadata=a%3Db%3Dc", "metadata=%25", "metadata=a%3D%25zz"] {
            let refused = Query::parse(bad).and_then(|query| query.metadata());
            assert_eq!(refused.unwrap_err().status(), 400, "{bad}");
        }
        for bad in ["a=%", "a=%f", "a=%ff", "%zz"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn metadata_survives_the_clients_escaping(
            pairs in proptest::collection::btree_map(".{1,12}", ".{0,12}", 0..6),
        ) {
            let query = Query::parse(&as_clients_write(&pairs)).unwrap();
            prop_assert_eq!(query.metadata().unwrap(), pairs);
        }

        #[test]
        fn any_text_is_a_query_or_a_400(text in ".{0,200}") {
            let parsed = Query::parse(&text).and_then(|query| query.metadata());
            if let Err(problem) = parsed {
                prop_assert_eq!(problem.status(), 400);
            }
        }
    }
}
