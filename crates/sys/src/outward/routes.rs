//! `lo` with an address of its own and local default routes, by netlink.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use crate::check;

/// The index of `lo`, the first interface of every namespace.
const LO: u32 = 1;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// In the caller's namespace.
pub(super) fn install(v4: Ipv4Addr, v6: Ipv6Addr) -> io::Result<()> {
    let socket = open()?;
    let (v4, v6) = (v4.octets(), v6.octets());
    let messages = [
        link_up(),
        address(libc::AF_INET, &v4),
        address(libc::AF_INET6, &v6),
        default_route(libc::AF_INET, &v4),
        default_route(libc::AF_INET6, &v6),
    ];
    for (number, (kind, flags, body)) in messages.into_iter().enumerate() {
        exchange(&socket, kind, flags, number as u32 + 1, &body)?;
    }
    Ok(())
}

type Message = (u16, u16, Vec<u8>);

fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) }.into())?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `struct ifinfomsg`: family, pad, type (2), index (4), flags (4), change (4).
fn link_up() -> Message {
    let up = libc::IFF_UP as u32;
    let mut body = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    for word in [LO, up, up] {
        body.extend(word.to_ne_bytes());
    }
    (libc::RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, body)
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index (4).
fn address(family: libc::c_int, address: &[u8]) -> Message {
    let bits = address.len() as u8 * 8;
    let no_duplicate_detection = libc::IFA_F_NODAD as u8;
    let mut body = vec![family as u8, bits, no_duplicate_detection, libc::RT_SCOPE_UNIVERSE];
    body.extend(LO.to_ne_bytes());
    attribute(&mut body, libc::IFA_LOCAL, address);
    attribute(&mut body, libc::IFA_ADDRESS, address);
    (libc::RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body)
}

/// `struct rtmsg`: family, destination and source length, tos, table, protocol, scope, type, flags (4).
fn default_route(family: libc::c_int, source: &[u8]) -> Message {
    let mut body = vec![
        family as u8,
        0,
        0,
        0,
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_HOST,
        libc::RTN_LOCAL,
    ];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, libc::RTA_OIF, &LO.to_ne_bytes());
    attribute(&mut body, libc::RTA_PREFSRC, source);
    (libc::RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body)
}

/// `struct rtattr`; all values here are multiples of the alignment.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (value.len() + 4) as u16;
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// Whether an address is one of the caller's namespace: what is sent there never leaves it.
///
/// # Errors
/// What the kernel reports; `HostUnreachable` or `NetworkUnreachable` where no route leads there.
pub fn is_local(target: IpAddr) -> io::Result<bool> {
    let (family, octets) = match target {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let mut body = vec![family as u8, octets.len() as u8 * 8, 0, 0, 0, 0, 0, 0];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, libc::RTA_DST, &octets);
    let mut answer = [0_u8; 1024];
    let length = ask(&open()?, libc::RTM_GETROUTE, NLM_F_REQUEST, 1, &body, &mut answer)?;
    let answer = answer.get(..length).unwrap_or_default();
    if answer.get(4..6) == Some(&(libc::NLMSG_ERROR as u16).to_ne_bytes()) {
        verdict(answer)?;
        return Err(io::ErrorKind::InvalidData.into());
    }
    // The type is the last byte of `struct rtmsg` before its flags.
    let kind = answer.get(HEADER + 7).ok_or(io::ErrorKind::InvalidData)?;
    Ok([libc::RTN_LOCAL, libc::RTN_BROADCAST, libc::RTN_ANYCAST, libc::RTN_MULTICAST]
        .contains(kind))
}

/// Sends one message and waits for the kernel's verdict, which it gives at once.
fn exchange(socket: &OwnedFd, kind: u16, flags: u16, sequence: u32, body: &[u8]) -> io::Result<()> {
    let mut answer = [0_u8; 1024];
    let length = ask(socket, kind, flags, sequence, body, &mut answer)?;
    verdict(answer.get(..length).unwrap_or_default())
}

/// The length of what the kernel answers.
fn ask(
    socket: &OwnedFd,
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &[u8],
    answer: &mut [u8],
) -> io::Result<usize> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    let fd = socket.as_raw_fd();
    // SAFETY: the buffer lives through the call and its length is the right one.
    check(unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), 0) } as _)?;
    // SAFETY: the buffer lives through the call and its length is the right one.
    let length =
        check(unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) } as _)?;
    Ok(length as usize)
}

/// Of `struct nlmsgerr`.
fn verdict(answer: &[u8]) -> io::Result<()> {
    let error = answer
        .get(HEADER..HEADER + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes)
        .ok_or(io::ErrorKind::InvalidData)?;
    match error {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}
