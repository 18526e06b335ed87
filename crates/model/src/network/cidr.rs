//! Address ranges.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Ranges of IPv6 from this prefix on that hold IPv4 in IPv6 hold no address that was given out.
const UNASSIGNED: u8 = 3;

/// A range of IPv4 or IPv6 addresses. Its address has no bits behind the prefix.
///
/// IPv4 in IPv6 (`::ffff:a.b.c.d`) is IPv4 here, as it is where connections are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// One address alone.
    pub fn one(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The range of `prefix` bits around `address`; `None` if there are no so many bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (address, prefix) = match (address.to_canonical(), prefix) {
            (IpAddr::V4(v4), 97..=128) if address.is_ipv6() => (IpAddr::V4(v4), prefix - 96),
            _ => (address, prefix),
        };
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask_v4(prefix)))
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask_v6(prefix)))
            }
            _ => return None,
        };
        Some(Self { address, prefix })
    }

    /// `0.0.0.0/0`, which stands for all traffic, of both families, as `ALL_TRAFFIC` of E2B does.
    /// `::/0` is IPv6 alone.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0 && self.address.is_ipv4()
    }

    /// The first one in it.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits of the address that all have in common.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        if self.is_everything() {
            return true;
        }
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(v4)) => {
                v4.to_bits() & mask_v4(self.prefix) == net.to_bits()
            }
            (IpAddr::V6(net), IpAddr::V6(v6)) => {
                v6.to_bits() & mask_v6(self.prefix) == net.to_bits()
            }
            (IpAddr::V6(net), IpAddr::V4(v4)) => {
                // All of IPv4 in IPv6; shorter ones are there for the public addresses of IPv6.
                let mapped = v4.to_ipv6_mapped().to_bits() & mask_v6(self.prefix);
                self.prefix >= UNASSIGNED && mapped == net.to_bits()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
    }

    /// Whether all of `other` is in it.
    pub fn holds(&self, other: &Self) -> bool {
        if self.is_everything() || other.is_everything() {
            return self.is_everything();
        }
        let bits = |net: &Self| if net.address.is_ipv4() { net.prefix + 96 } else { net.prefix };
        bits(self) <= bits(other) && self.contains(other.address)
    }

    /// Whether some address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.holds(other) || other.holds(self)
    }
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = String;

    /// `address` or `address/prefix`. Only the usual spellings: no octal, no hexadecimal IPv4.
    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(64).collect();
        let bad = || format!("`{shown}` is neither an IP address nor a CIDR block");
        match text.split_once('/') {
            None => Ok(Self::one(text.parse().map_err(|_| bad())?)),
            Some((address, prefix)) => {
                let plain =
                    (1..=3).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit());
                let prefix = plain.then(|| prefix.parse().ok()).flatten().ok_or_else(bad)?;
                Self::new(address.parse().map_err(|_| bad())?, prefix).ok_or_else(bad)
            }
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == if self.address.is_ipv4() { 32 } else { 128 } {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

super::by_text!(Cidr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        for (text, shown) in [
            ("::ffff:93.184.216.34", "93.184.216.34"),
            ("::ffff:5db8:d822/128", "93.184.216.34"),
            ("::ffff:93.184.216.77/120", "93.184.216.0/24"),
            ("64:ff9b::5db8:d822", "64:ff9b::5db8:d822"),
            ("::ffff:0:0:0/96", "::ffff:0:0:0/96"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), shown);
        }
        let range: Cidr = "::ffff:93.184.216.0/120".parse().unwrap();
        assert!(range.contains("93.184.216.34".parse().unwrap()));
        let [four, six]: [IpAddr; 2] = ["8.8.8.8", "2606:4700::1111"].map(|ip| ip.parse().unwrap());
        for text in ["::ffff:0:0/96", "::ffff:9.9.9.9/80", "::/8"] {
            let range: Cidr = text.parse().unwrap();
            assert!(range.contains(four) && !range.contains(six), "{text}");
        }
        for text in ["::/0", "::/1", "::/2"] {
            let range: Cidr = text.parse().unwrap();
            assert!(!range.contains(four) && range.contains(six), "{text}");
        }
        assert!("::ffff:0:0/129".parse::<Cidr>().is_err());
    }

    #[test]
    fn all_traffic_is_of_both_families_and_all_of_ipv6_of_its_own() {
        let [four, six]: [IpAddr; 2] = ["8.8.8.8", "2606:4700::1111"].map(|ip| ip.parse().unwrap());
        let range = |text: &str| text.parse::<Cidr>().unwrap();
        let [all, v6] = ["0.0.0.0/0", "::/0"].map(range);
        assert!(all.contains(four) && all.contains(six) && all.is_everything());
        assert!(!v6.contains(four) && v6.contains(six) && !v6.is_everything());
    }

    #[test]
    fn a_range_holds_what_lies_in_it_whole() {
        for (outer, inner, holds) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("0.0.0.0/0", "2001:db8::/32", true),
            ("::/0", "0.0.0.0/0", false),
            ("::/0", "192.0.2.1", false),
            ("::ffff:0:0/96", "192.0.2.0/24", true),
            ("192.0.2.0/24", "::ffff:0:0/96", false),
            ("2001:db8::/32", "2001:db8::1", true),
        ] {
            let [outer, inner]: [Cidr; 2] = [outer, inner].map(|text| text.parse().unwrap());
            assert_eq!(outer.holds(&inner), holds, "{outer} {inner}");
            assert_eq!(outer.overlaps(&inner), holds || inner.holds(&outer));
            assert_eq!(outer.overlaps(&inner), inner.overlaps(&outer));
        }
    }
}
