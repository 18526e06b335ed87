//! The host that requests to a port carry.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Port;

const PORT: &str = "${PORT}";

/// `host` or `host:port`, ASCII, in which `${PORT}` stands for the port that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostMask(String);

impl HostMask {
    pub fn for_port(&self, port: Port) -> String {
        self.0.replace(PORT, &port.to_string())
    }
}

impl FromStr for HostMask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(64).collect();
        // The longest port stands for all of them.
        if is_host(&text.replace(PORT, "65535")) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{shown}` is no `host` or `host:port` of ASCII, with or without {PORT}"))
        }
    }
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            }
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (1..=253).contains(&name.len()) && name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<Port>().is_ok()
}

impl fmt::Display for HostMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::by_text!(HostMask);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn masks_are_hosts_with_or_without_a_port() {
        for (mask, expected) in [
            ("localhost:${PORT}", "localhost:3000"),
            ("app.example.com", "app.example.com"),
            ("${PORT}-app.example.com", "3000-app.example.com"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:${PORT}", "[::1]:3000"),
        ] {
            let mask: HostMask = mask.parse().unwrap();
            assert_eq!(mask.for_port(Port::new(3000).unwrap()), expected);
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a b",
            "a\r\nX: y",
            "a/b",
            "http://a",
            "u@a",
            "é",
            "${port}",
            "$PORT",
            "a..b",
            "[::1",
            "[x]",
            "[::1]x",
            &"a".repeat(64),
            &"a.".repeat(130),
        ] {
            assert!(bad.parse::<HostMask>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_mask_is_a_header_value(text in "\\PC{0,30}", port in 1_u16..) {
            if let Ok(mask) = text.parse::<HostMask>() {
                let host = mask.for_port(Port::new(port).unwrap());
                prop_assert!(host.bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
