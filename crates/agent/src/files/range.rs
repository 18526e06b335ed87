//! `Range` and the conditional headers, as RFC 9110 has them for a resource without an entity tag.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, header};

/// More ranges than this are no honest request; the whole file is sent instead.
const MAX_RANGES: usize = 64;

/// A piece of a file, in bytes; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u64,
    pub length: u64,
}

impl Span {
    /// The value of `Content-Range` for a file of this size.
    pub fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.start + self.length - 1)
    }
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Whole,
    Parts(Vec<Span>),
    /// 416
    Unsatisfiable,
    /// 304
    NotModified,
    /// 412
    PreconditionFailed,
}

/// Whether the answer depends on which bytes the client has already.
pub fn is_selective(headers: &HeaderMap) -> bool {
    let names = [
        header::RANGE,
        header::IF_RANGE,
        header::IF_MODIFIED_SINCE,
        header::IF_NONE_MATCH,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
    ];
    names.iter().any(|name| headers.contains_key(name))
}

/// Chooses what to send of a file of `size` bytes.
pub fn select(headers: &HeaderMap, size: u64, modified: SystemTime) -> Selection {
    let modified = whole_seconds(modified);
    if let Some(tags) = text(headers, &header::IF_MATCH) {
        if !names_anything(tags) {
            return Selection::PreconditionFailed;
        }
    } else if date(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(|date| modified > date) {
        return Selection::PreconditionFailed;
    }
    if let Some(tags) = text(headers, &header::IF_NONE_MATCH) {
        if names_anything(tags) {
            return Selection::NotModified;
        }
    } else if date(headers, &header::IF_MODIFIED_SINCE).is_some_and(|date| modified <= date) {
        return Selection::NotModified;
    }
    let Some(range) = text(headers, &header::RANGE) else { return Selection::Whole };
    if headers.contains_key(header::IF_RANGE) && date(headers, &header::IF_RANGE) != Some(modified)
    {
        return Selection::Whole;
    }
    parse(range, size)
}

fn parse(range: &str, size: u64) -> Selection {
    let Some(list) = range.strip_prefix("bytes=") else { return Selection::Unsatisfiable };
    let mut spans = Vec::new();
    let mut outside = false;
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match parse_one(item, size) {
            Some(Some(span)) => spans.push(span),
            Some(None) => outside = true,
            None => return Selection::Unsatisfiable,
        }
        if spans.len() > MAX_RANGES {
            return Selection::Whole;
        }
    }
    let wanted = spans.iter().try_fold(0_u64, |sum, span| sum.checked_add(span.length));
    match spans.is_empty() {
        // Nothing of an empty file is everything of it.
        true if outside && size > 0 => Selection::Unsatisfiable,
        true => Selection::Whole,
        // Overlapping ranges would make a small request cost much.
        false if wanted.is_none_or(|wanted| wanted > size) => Selection::Whole,
        false => Selection::Parts(spans),
    }
}

/// `None` is a broken range, `Some(None)` one that lies outside.
fn parse_one(item: &str, size: u64) -> Option<Option<Span>> {
    let (first, last) = item.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let length = number(last)?.min(size);
        return Some((length > 0).then(|| Span { start: size - length, length }));
    }
    let start = number(first)?;
    let last = match last {
        "" => u64::MAX,
        last => number(last).filter(|last| *last >= start)?,
    };
    if start >= size {
        return Some(None);
    }
    Some(Some(Span { start, length: last.min(size - 1) - start + 1 }))
}

/// Digits only; more than fit are as good as the largest number.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// There is no entity tag, so of all tags only `*` fits.
fn names_anything(tags: &str) -> bool {
    tags.split(',').any(|tag| tag.trim() == "*")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, name)?).ok()
}

/// HTTP dates know no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(spans: &[(u64, u64)]) -> Selection {
        Selection::Parts(spans.iter().map(|&(start, length)| Span { start, length }).collect())
    }

    #[test]
    fn ranges_of_ten_bytes() {
        for (range, expected) in [
            ("bytes=0-3", parts(&[(0, 4)])),
            ("bytes=4-", parts(&[(4, 6)])),
            ("bytes=-3", parts(&[(7, 3)])),
            ("bytes=-300", parts(&[(0, 10)])),
            ("bytes=9-9", parts(&[(9, 1)])),
            ("bytes=5-99999999999999999999999", parts(&[(5, 5)])),
            ("bytes=0-0, 9-", parts(&[(0, 1), (9, 1)])),
            ("bytes=20-30, 0-1", parts(&[(0, 2)])),
            ("bytes=0-9,0-9", Selection::Whole),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=18446744073709551615-", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=3-1", Selection::Unsatisfiable),
            ("bytes=--3", Selection::Unsatisfiable),
            ("bytes=+1-2", Selection::Unsatisfiable),
            ("bytes=a-b", Selection::Unsatisfiable),
            ("bytes=5", Selection::Unsatisfiable),
            ("lines=1-2", Selection::Unsatisfiable),
            ("bytes=", Selection::Whole),
        ] {
            assert_eq!(parse(range, 10), expected, "{range}");
        }
        assert_eq!(parse("bytes=0-", 0), Selection::Whole);
        let many = format!("bytes={}", "0-0,".repeat(100));
        assert_eq!(parse(&many, 10_000), Selection::Whole);
    }

    #[test]
    fn dates_decide() {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_500);
        let stamp = |seconds: u64| {
            httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        };
        let with = |pairs: &[(&HeaderName, String)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            select(&headers, 10, modified)
        };
        let same = stamp(1_000_000);
        let (before, after) = (stamp(999_999), stamp(1_000_001));
        let first = "bytes=0-0".to_owned();
        assert_eq!(with(&[(&header::IF_MODIFIED_SINCE, same.clone())]), Selection::NotModified);
        assert_eq!(with(&[(&header::IF_MODIFIED_SINCE, before.clone())]), Selection::Whole);
        assert_eq!(
            with(&[(&header::IF_UNMODIFIED_SINCE, before.clone())]),
            Selection::PreconditionFailed
        );
        assert_eq!(with(&[(&header::IF_UNMODIFIED_SINCE, after)]), Selection::Whole);
        assert_eq!(with(&[(&header::IF_NONE_MATCH, "*".to_owned())]), Selection::NotModified);
        assert_eq!(with(&[(&header::IF_NONE_MATCH, "\"x\"".to_owned())]), Selection::Whole);
        assert_eq!(with(&[(&header::IF_MATCH, "\"x\"".to_owned())]), Selection::PreconditionFailed);
        assert_eq!(
            with(&[(&header::RANGE, first.clone()), (&header::IF_RANGE, same)]),
            parts(&[(0, 1)])
        );
        assert_eq!(with(&[(&header::RANGE, first), (&header::IF_RANGE, before)]), Selection::Whole);
        assert_eq!(with(&[(&header::IF_MODIFIED_SINCE, "never".to_owned())]), Selection::Whole);
    }
}
