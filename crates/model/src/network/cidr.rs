//! Address ranges.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A range of IPv4 or IPv6 addresses. Its address has no bits behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// One address alone.
    pub fn one(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The range of `prefix` bits around `address`; `None` if there are no so many bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
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

    /// `0.0.0.0/0` or `::/0`. Either stands for all traffic, of both families.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
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
            _ => false,
        }
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
