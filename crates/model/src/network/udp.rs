//! Where datagrams may go.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Cidr, Destination};
use crate::Port;

const MAX_RULE: usize = 320;
const DNS: u16 = 53;

/// `192.0.2.0/24:123`, `[2001:db8::/32]:123` or `ntp.example.com:123`: one port of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UdpRule {
    pub destination: Destination,
    pub port: Port,
}

impl FromStr for UdpRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(64).collect();
        let bad = |why: &str| format!("`{shown}` is no rule for UDP: {why}");
        if text.len() > MAX_RULE {
            return Err(bad(&format!("at most {MAX_RULE} bytes fit")));
        }
        let (place, port) = text
            .rsplit_once(':')
            .ok_or_else(|| bad("write `destination:port`, as in `192.0.2.1:123`"))?;
        let port: Port = port.parse().map_err(|_| bad("a port is 1 to 65535"))?;
        if port.get() == DNS {
            return Err(bad("questions to name servers are answered without a rule"));
        }
        let bare = place.strip_prefix('[').and_then(|place| place.strip_suffix(']'));
        let destination = match bare {
            Some(v6) => Destination::Net(v6.parse::<Cidr>().map_err(|why| bad(&why))?),
            None if place.contains(':') => return Err(bad("write IPv6 as [address]:port")),
            None => place.parse().map_err(|why: String| bad(&why))?,
        };
        Ok(Self { destination, port })
    }
}

impl fmt::Display for UdpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, port) = (self.destination.to_string(), self.port.get());
        if place.contains(':') {
            write!(f, "[{place}]:{port}")
        } else {
            write!(f, "{place}:{port}")
        }
    }
}

super::by_text!(UdpRule);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_back_as_they_were_written() {
        for text in [
            "192.0.2.1:123",
            "192.0.2.0/24:1",
            "[2001:db8::/32]:443",
            "*.a.b:443",
            "*:9",
            "a.b:65535",
        ] {
            assert_eq!(text.parse::<UdpRule>().unwrap().to_string(), text);
        }
        for (text, said) in [
            ("192.0.2.1", "destination:port"),
            ("192.0.2.1:53", "name servers"),
            ("192.0.2.1:0", "1 to 65535"),
            ("2001:db8::1:123", "[address]:port"),
            ("[192.0.2.0/99]:1", "UDP"),
            ("192.0.2.0/99:1", "UDP"),
            ("a b:1", "no domain"),
        ] {
            let error = text.parse::<UdpRule>().unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
