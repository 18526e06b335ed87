//! Destinations of UDP that the steering lets through to the relay: a table in the kernel.

use std::{
    io,
    net::IpAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use super::bpf;

/// Open doors of one namespace, at most.
const MOST: u32 = 4096;
/// Bits of a key before the address.
const PORT_BITS: u32 = 32;
/// The length of the prefix, the port, and the address in its IPv6 form.
pub(super) const KEY: usize = 24;

/// A port of all addresses that begin with `prefix` bits of `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Door {
    pub port: u16,
    pub address: IpAddr,
    /// 0 means every address of both families.
    pub prefix: u8,
}

impl Door {
    fn key(&self) -> [u8; KEY] {
        let (address, before) = match self.address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 96),
            IpAddr::V6(v6) => (v6, 0),
        };
        let bits = if self.prefix == 0 { 0 } else { before + u32::from(self.prefix) };
        let mut key = [0; KEY];
        key[..4].copy_from_slice(&(PORT_BITS + bits).to_ne_bytes());
        key[4..8].copy_from_slice(&u32::from(self.port).to_ne_bytes());
        key[8..].copy_from_slice(&address.octets());
        key
    }
}

pub(super) fn map() -> io::Result<OwnedFd> {
    bpf::prefix_map(KEY as u32, MOST)
}

/// # Errors
/// What the kernel reports: `StorageFull` if there are too many.
pub fn open(doors: BorrowedFd<'_>, door: Door) -> io::Result<()> {
    bpf::update(doors, &door.key(), 1)
}

/// # Errors
/// What the kernel reports: `NotFound` if it is not open.
pub fn close(doors: BorrowedFd<'_>, door: Door) -> io::Result<()> {
    bpf::delete(doors, &door.key())
}
