//! What sandboxes send out, and what comes back.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use http::Request;
use soulbox_egress::fuzzing;
use soulbox_model::{
    SecretValue,
    network::{Egress, Marker, RequestRule, UdpRule, is_plain_path},
};

/// In the corpus.
const MARKER: &str = "soulbox_secret_abcdefghijklmnopqrstuvwxyz";
const VALUE: &str = "v4lue~";

/// The first bytes of a connection: what is found in a part is found in the whole.
pub fn peek(data: &[u8]) {
    let (_, whole) = fuzzing::spoken(data);
    for at in [data.len() / 4, data.len() / 2, data.len().saturating_sub(1)] {
        let (more, part) = fuzzing::spoken(&data[..at]);
        assert!(!(more && part.is_some()));
        if let Some(part) = part {
            assert_eq!(Some(part), whole, "more bytes changed the host");
        }
    }
}

/// A question: what leaves asks for the name that was judged, and for nothing else.
pub fn dns_question(data: &[u8]) {
    if let Some((name, asked)) = fuzzing::question(data) {
        let (again, same) = fuzzing::question(&asked).expect("our own question");
        assert_eq!((&again, &same), (&name, &asked));
        // Header, encoded name, type, class, EDNS.
        assert_eq!(asked.len(), 12 + name.as_str().len() + 2 + 4 + 11);
    }
}

/// An answer of any name server.
pub fn dns_answer(data: &[u8]) {
    assert!(fuzzing::addresses(data) <= data.len());
}

/// A request rule, or one for UDP, and a path: rules come back as they were read, and no path that could be read
/// otherwise is allowed.
pub fn request_rule(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (rule, path) = text.split_once('\n').unwrap_or((&text, "/"));
    if let Ok(udp) = rule.parse::<UdpRule>() {
        assert_eq!(udp.to_string().parse().as_ref(), Ok(&udp));
        assert_ne!(udp.port.get(), 53, "name service is ours");
    }
    let Ok(rule) = rule.parse::<RequestRule>() else { return };
    assert_eq!(rule.to_string().parse::<RequestRule>().as_ref(), Ok(&rule));
    let host = "a.example.com".parse().expect("a domain");
    let named = rule.is_for(&host);
    let egress = Egress { requests: vec![rule], ..Egress::default() };
    if named && egress.permits("GET", &host, path) {
        assert!(is_plain_path(path) && !path.split('/').any(|part| part == ".."));
    }
}

/// A query and header values with placeholders in them: each becomes the value, and nothing else
/// changes.
pub fn placeholders(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let mut request = Request::builder().uri(format!("/?{query}"));
    for (n, line) in lines.enumerate() {
        request = request.header(format!("x-{n}"), line);
    }
    let Ok(before) = request.body(()) else { return };
    let mut after = before.clone();
    let marker: Marker = MARKER.parse().expect("a placeholder");
    let secret = "key".parse().expect("a name");
    let value = SecretValue::new(VALUE.to_owned()).expect("a value");
    fuzzing::fill((&marker, &secret), value, &mut after).expect("so little fits everywhere");
    assert_eq!(after.uri().to_string(), before.uri().to_string().replace(MARKER, VALUE));
    for (name, was) in before.headers() {
        let is = &after.headers()[name];
        match (std::str::from_utf8(was.as_bytes()), credentials(was)) {
            (Ok(text), _) if text.contains(MARKER) => {
                assert_eq!(is.as_bytes(), text.replace(MARKER, VALUE).as_bytes());
            }
            (_, Some(plain)) if holds(&plain) => {
                let filled = credentials(is).expect("still credentials");
                let expected = String::from_utf8_lossy(&plain).replace(MARKER, VALUE);
                assert_eq!(String::from_utf8_lossy(&filled), expected);
            }
            _ if holds(was.as_bytes()) => assert!(!holds(is.as_bytes())),
            _ => assert_eq!(is, was),
        }
    }
}

fn holds(text: &[u8]) -> bool {
    text.windows(MARKER.len()).any(|part| part == MARKER.as_bytes())
}

/// As servers read them.
fn credentials(value: &http::HeaderValue) -> Option<Vec<u8>> {
    let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(text.trim()).or_else(|_| STANDARD_NO_PAD.decode(text.trim()));
    scheme.eq_ignore_ascii_case("basic").then(|| decoded.ok()).flatten()
}
