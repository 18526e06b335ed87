//! Datagrams whose source is any address and port: whole packets, written by hand.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use crate::check;

const UDP_HEADER: usize = 8;
const HOPS: u8 = 64;

/// Sends packets and receives none.
pub(super) fn socket(family: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(family, kind, libc::IPPROTO_RAW) }.into())?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a datagram to `to` as if from `from`, which is of the same family.
///
/// # Errors
/// What `sendto(2)` reports; `InvalidInput` for two families or more than fits.
pub fn answer(
    answers: &[OwnedFd; 2],
    payload: &[u8],
    from: SocketAddr,
    to: SocketAddr,
) -> io::Result<()> {
    let [v4, v6] = answers;
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let packet = packet_v4(payload, (*from.ip(), from.port()), (*to.ip(), to.port()))?;
            // SAFETY: plain data for which all zeroes is a valid value.
            let mut name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_addr.s_addr = to.ip().to_bits().to_be();
            send(v4, &packet, &name)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let packet = packet_v6(payload, (*from.ip(), from.port()), (*to.ip(), to.port()))?;
            // SAFETY: plain data for which all zeroes is a valid value.
            let mut name: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_addr.s6_addr = to.ip().octets();
            send(v6, &packet, &name)
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn send<A>(socket: &OwnedFd, packet: &[u8], name: &A) -> io::Result<()> {
    let length = size_of::<A>() as libc::socklen_t;
    let (fd, name) = (socket.as_raw_fd(), std::ptr::from_ref(name).cast());
    let (bytes, flags) = (packet.as_ptr().cast(), libc::MSG_NOSIGNAL);
    // SAFETY: packet and name live through the call, and their lengths are the right ones.
    check(unsafe { libc::sendto(fd, bytes, packet.len(), flags, name, length) } as _)?;
    Ok(())
}

fn length(payload: &[u8], before: usize) -> io::Result<[u8; 2]> {
    let whole = u16::try_from(payload.len() + before).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(whole.to_be_bytes())
}

/// The kernel writes the header's length and checksum; UDP needs none.
fn packet_v4(payload: &[u8], from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> io::Result<Vec<u8>> {
    const HEADER: usize = 20;
    let [l0, l1] = length(payload, HEADER + UDP_HEADER)?;
    let mut packet = vec![0x45, 0, l0, l1, 0, 0, 0, 0, HOPS, libc::IPPROTO_UDP as u8, 0, 0];
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    packet.extend(udp(payload, from.1, to.1, [0, 0])?);
    Ok(packet)
}

fn packet_v6(payload: &[u8], from: (Ipv6Addr, u16), to: (Ipv6Addr, u16)) -> io::Result<Vec<u8>> {
    let [l0, l1] = length(payload, UDP_HEADER)?;
    let mut packet = vec![0x60, 0, 0, 0, l0, l1, libc::IPPROTO_UDP as u8, HOPS];
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    let unsummed = udp(payload, from.1, to.1, [0, 0])?;
    let words = [from.0.octets(), to.0.octets()].concat();
    let pseudo = [&words, [0, 0, l0, l1, 0, 0, 0, libc::IPPROTO_UDP as u8].as_slice()].concat();
    packet.extend(udp(payload, from.1, to.1, checksum(&pseudo, &unsummed))?);
    Ok(packet)
}

fn udp(payload: &[u8], from: u16, to: u16, sum: [u8; 2]) -> io::Result<Vec<u8>> {
    let mut datagram = Vec::with_capacity(UDP_HEADER + payload.len());
    datagram.extend(from.to_be_bytes());
    datagram.extend(to.to_be_bytes());
    datagram.extend(length(payload, UDP_HEADER)?);
    datagram.extend(sum);
    datagram.extend(payload);
    Ok(datagram)
}

/// The internet checksum (RFC 1071); 0 is written as its other form, since it would mean none.
fn checksum(pseudo: &[u8], datagram: &[u8]) -> [u8; 2] {
    let word =
        |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = pseudo.chunks(2).chain(datagram.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => [0xff, 0xff],
        sum => sum.to_be_bytes(),
    }
}
