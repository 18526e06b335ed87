//! Addresses that are no places in the public internet.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Why an address is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    Loopback,
    Private,
    LinkLocal,
    /// Where clouds serve the identity of a machine.
    Metadata,
    /// Shared by the customers of a provider.
    CarrierNat,
    Multicast,
    /// IPv6 that stands for an IPv4 address, or leads there.
    Embedded,
    /// Reserved, for documentation, or for measurements.
    Reserved,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata address",
            Self::CarrierNat => "a carrier-grade NAT address",
            Self::Multicast => "a multicast address",
            Self::Embedded => "an IPv6 address that stands for an IPv4 one",
            Self::Reserved => "an address of a reserved range",
        })
    }
}

/// What keeps `address` from being public; `None` if it is. An IPv4-mapped one is taken as IPv4.
pub fn special(address: IpAddr) -> Option<Special> {
    match address.to_canonical() {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<Special> {
    let kind = match address.octets() {
        [169, 254, 169, 254] | [100, 100, 100, 200] | [168, 63, 129, 16] => Special::Metadata,
        [127, ..] => Special::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Special::Private,
        [169, 254, ..] => Special::LinkLocal,
        [100, 64..=127, ..] => Special::CarrierNat,
        [224..=239, ..] => Special::Multicast,
        // "This network", protocol assignments, documentation, 6to4 relays, benchmarks, the rest.
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Special::Reserved,
        _ => return None,
    };
    Some(kind)
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    let kind = match address.segments() {
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] => Special::Metadata,
        [0, 0, 0, 0, 0, 0, 0, 1] => Special::Loopback,
        // IPv4-compatible, translated and NAT64 addresses, both its prefixes.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => Special::Embedded,
        [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, ..] => Special::Embedded,
        // Teredo and 6to4.
        [0x2001, 0, ..] | [0x2002, ..] => Special::Embedded,
        // ISATAP.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => Special::Embedded,
        [0xfc00..=0xfdff, ..] => Special::Private,
        [0xfe80..=0xfebf, ..] => Special::LinkLocal,
        [0xff00..=0xffff, ..] => Special::Multicast,
        // Protocol assignments, documentation.
        [0x2001, 1..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            Special::Reserved
        }
        // Only this much is given out.
        [0x2000..=0x3fff, ..] => return None,
        _ => Special::Reserved,
    };
    Some(kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_range_is_known_at_both_ends() {
        use Special::*;
        for (text, expected) in [
            ("8.8.8.8", None),
            ("93.184.216.34", None),
            ("9.255.255.255", None),
            ("11.0.0.0", None),
            ("172.15.255.255", None),
            ("172.32.0.0", None),
            ("100.63.255.255", None),
            ("100.128.0.0", None),
            ("223.255.255.255", None),
            ("10.0.0.0", Some(Private)),
            ("10.255.255.255", Some(Private)),
            ("172.16.0.0", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("192.168.1.1", Some(Private)),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.255", Some(Loopback)),
            ("0.0.0.0", Some(Reserved)),
            ("169.254.169.254", Some(Metadata)),
            ("169.254.0.1", Some(LinkLocal)),
            ("168.63.129.16", Some(Metadata)),
            ("100.100.100.200", Some(Metadata)),
            ("100.64.0.1", Some(CarrierNat)),
            ("224.0.0.1", Some(Multicast)),
            ("255.255.255.255", Some(Reserved)),
            ("198.18.0.1", Some(Reserved)),
            ("203.0.113.7", Some(Reserved)),
            ("::", Some(Reserved)),
            ("::1", Some(Loopback)),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("::ffff:8.8.8.8", None),
            ("::8.8.8.8", Some(Embedded)),
            ("::ffff:0:127.0.0.1", Some(Embedded)),
            ("64:ff9b::10.0.0.1", Some(Embedded)),
            ("64:ff9b:1::10.0.0.1", Some(Embedded)),
            ("2002:7f00:1::", Some(Embedded)),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Some(Embedded)),
            ("2606::5efe:10.0.0.1", Some(Embedded)),
            ("fd00:ec2::254", Some(Metadata)),
            ("fc00::1", Some(Private)),
            ("fe80::1", Some(LinkLocal)),
            ("fec0::1", Some(Reserved)),
            ("ff02::1", Some(Multicast)),
            ("2001:db8::1", Some(Reserved)),
            ("3fff::1", Some(Reserved)),
            ("100::1", Some(Reserved)),
            ("2606:4700:4700::1111", None),
            ("2001:4860:4860::8888", None),
        ] {
            assert_eq!(special(text.parse().unwrap()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_like_its_own(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(special(v4.into()), special(v4.to_ipv6_mapped().into()));
        }

        #[test]
        fn no_address_that_std_calls_private_is_public(bits: u128) {
            let v6 = Ipv6Addr::from_bits(bits);
            if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast() {
                prop_assert!(special(v6.into()).is_some());
            }
        }
    }
}
