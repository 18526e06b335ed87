//! The way out of a network namespace that has no interface but `lo`.
//!
//! Local default routes make every address an address of `lo`, and a BPF program at the socket
//! look-up hands what arrives to two sockets that the caller owns: TCP to a listener, which learns
//! the destination from `getsockname(2)`, and UDP to port 53 to a datagram socket. Loopback and the
//! namespace's own addresses stay inside. Other UDP goes to a third socket where a door was opened for
//! its destination, and is refused at once everywhere else. There is no packet filter,
//! no address translation and no second interface.

mod bpf;
mod datagram;
mod doors;
mod pacing;
mod packet;
mod routes;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

pub use datagram::{Datagram, receive, send};
pub use doors::{Door, close as close_door, open as open_door};
pub use packet::answer;
pub use routes::is_local;

use crate::{check, netns::visit};

/// The address of every namespace's own `lo`, beside loopback: nobody else can see it.
pub const OWN_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x15);

/// Where the listener and the relay are bound. Nothing needs to go there.
const LISTEN_PORT: u16 = 15001;
const DNS_PORT: u16 = 53;
/// Connections that wait to be accepted.
const BACKLOG: libc::c_int = 256;

/// The caller's ends. When they are closed, connects inside are refused.
#[derive(Debug)]
pub struct Outward {
    /// Non-blocking; accepts connections to any address, over IPv4 (mapped) and IPv6.
    pub tcp: OwnedFd,
    /// Non-blocking; for [`receive`] and [`send`].
    pub udp: OwnedFd,
    /// What UDP to other ports goes through.
    pub relay: Relay,
    /// Keeps the steering in place while it is open.
    pub steering: OwnedFd,
}

/// The caller's ends of UDP to opened doors.
#[derive(Debug)]
pub struct Relay {
    /// Non-blocking; for [`receive`].
    pub socket: OwnedFd,
    /// For [`answer`], over IPv4 and IPv6.
    pub answers: [OwnedFd; 2],
    /// For [`open_door`] and [`close_door`]. None is open at first.
    pub doors: OwnedFd,
}

/// Makes the way out of `netns`. Doing it again after the ends were closed is fine.
///
/// # Errors
/// What the kernel reports; needs `CAP_NET_ADMIN`, `CAP_NET_RAW` and `CAP_BPF`. What was made goes with the
/// namespace.
pub fn open(home: BorrowedFd<'_>, netns: BorrowedFd<'_>) -> io::Result<Outward> {
    let (tcp, udp, socket, answers) = visit(home, netns, || {
        routes::install(OWN_V4, OWN_V6)?;
        // Where `/proc/sys` is read-only, flows are only slower.
        let _ = pacing::off();
        let answers = [packet::socket(libc::AF_INET)?, packet::socket(libc::AF_INET6)?];
        Ok((listener()?, datagrams(DNS_PORT)?, datagrams(LISTEN_PORT)?, answers))
    })?;
    let map = bpf::socket_map(&[tcp.as_fd(), udp.as_fd(), socket.as_fd()])?;
    let doors = doors::map()?;
    let program = bpf::steering(map.as_fd(), doors.as_fd(), OWN_V4, OWN_V6)?;
    let steering = bpf::attach(program.as_fd(), netns)?;
    Ok(Outward { tcp, udp, relay: Relay { socket, answers, doors }, steering })
}

fn socket(kind: libc::c_int, port: u16) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(libc::AF_INET6, kind | flags, 0) }.into())?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    set(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    // SAFETY: `sockaddr_in6` is plain data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    address.sin6_port = port.to_be();
    let length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    let (fd, address) = (socket.as_raw_fd(), (&raw const address).cast());
    // SAFETY: the address lives through the call and its length is the right one.
    let bound = unsafe { libc::bind(fd, address, length) };
    check(bound.into())?;
    Ok(socket)
}

fn listener() -> io::Result<OwnedFd> {
    let socket = socket(libc::SOCK_STREAM, LISTEN_PORT)?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) }.into())?;
    Ok(socket)
}

fn datagrams(port: u16) -> io::Result<OwnedFd> {
    let socket = socket(libc::SOCK_DGRAM, port)?;
    set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVORIGDSTADDR, 1)?;
    set(&socket, libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR, 1)?;
    // Answers come from the address that was asked, which is no address of this namespace.
    set(&socket, libc::IPPROTO_IPV6, IPV6_FREEBIND, 1)?;
    set(&socket, libc::IPPROTO_IP, libc::IP_FREEBIND, 1)?;
    set(&socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, 1)?;
    Ok(socket)
}

/// From `linux/in6.h`.
const IPV6_FREEBIND: libc::c_int = 78;

fn set(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: the option is an int that lives through the call.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, length) };
    check(set.into())?;
    Ok(())
}

#[cfg(test)]
mod tests;
