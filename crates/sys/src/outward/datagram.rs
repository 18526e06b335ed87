//! Datagrams to and from addresses that are not the socket's own.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use crate::check;

/// One received datagram. Addresses of IPv4 are plain, not mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes of the buffer that are filled.
    pub length: usize,
    pub from: SocketAddr,
    /// Where its sender sent it to.
    pub to: SocketAddr,
}

/// Room for one address or `in6_pktinfo`, aligned as control messages are.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Receives one datagram; a longer one than `buffer` is cut.
///
/// # Errors
/// What `recvmsg(2)` reports, `WouldBlock` if there is none; `InvalidData` if the kernel does not
/// say where it was sent.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut name: MaybeUninit<libc::sockaddr_in6> = MaybeUninit::zeroed();
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: `msghdr` is plain data for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: every buffer that the message points to lives through the call.
    let length = check(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) } as _)?;
    // SAFETY: zeroed before, and the kernel wrote a `sockaddr_in6`, as for every AF_INET6 socket.
    let name = unsafe { name.assume_init() };
    // SAFETY: the kernel filled the control buffer up to the length that it wrote back, and each kind of
    // message with the address of its family.
    let to = unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&raw const message);
        loop {
            if at.is_null() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR) => {
                    let to: libc::sockaddr_in6 = ptr::read_unaligned(libc::CMSG_DATA(at).cast());
                    break plain(&to);
                }
                (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR) => {
                    let to: libc::sockaddr_in = ptr::read_unaligned(libc::CMSG_DATA(at).cast());
                    let ip = Ipv4Addr::from_bits(u32::from_be(to.sin_addr.s_addr));
                    break SocketAddr::new(ip.into(), u16::from_be(to.sin_port));
                }
                _ => at = libc::CMSG_NXTHDR(&raw const message, at),
            }
        }
    };
    Ok(Datagram { length: length as usize, from: plain(&name), to })
}

/// Without the form of IPv6 that stands for IPv4.
fn plain(name: &libc::sockaddr_in6) -> SocketAddr {
    let ip = Ipv6Addr::from(name.sin6_addr.s6_addr).to_canonical();
    SocketAddr::new(ip, u16::from_be(name.sin6_port))
}

/// Sends a datagram to `to` as if from the address `from`.
///
/// # Errors
/// What `sendmsg(2)` reports.
pub fn send(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    from: IpAddr,
    to: SocketAddr,
) -> io::Result<()> {
    let mapped = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let target = SocketAddrV6::new(mapped(to.ip()), to.port(), 0, 0);
    // SAFETY: plain data for which all zeroes is a valid value.
    let mut name: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    name.sin6_port = target.port().to_be();
    name.sin6_addr.s6_addr = target.ip().octets();
    let mut control = Control([0; 64]);
    let mut part =
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: `msghdr` is plain data for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: the control buffer is zeroed, aligned and larger than one header with its data; the
    // call reads what the message points to, all of which lives through it.
    let sent = unsafe {
        let size = size_of::<libc::in6_pktinfo>() as u32;
        message.msg_controllen = libc::CMSG_SPACE(size) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        (*header).cmsg_level = libc::IPPROTO_IPV6;
        (*header).cmsg_type = libc::IPV6_PKTINFO;
        (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
        let info = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: mapped(from).octets() },
            ipi6_ifindex: 0,
        };
        ptr::write_unaligned(libc::CMSG_DATA(header).cast(), info);
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    check(sent as _)?;
    Ok(())
}
