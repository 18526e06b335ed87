//! What sandboxes send out, and what comes back.

use soulbox_egress::fuzzing;
use soulbox_model::network::{Egress, RequestRule, UdpRule, is_plain_path};

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
