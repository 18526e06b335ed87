//! Network namespaces: the loopback inside, sockets from outside.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::check;

/// Brings up `lo` in the caller's network namespace.
///
/// # Errors
/// What the `SIOCSIFFLAGS` ioctl reports.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the ioctl reads one `ifreq` that lives through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) }.into())?;
    Ok(())
}

/// Opens a non-blocking TCP socket that belongs to the network namespace `netns`.
///
/// The calling thread visits the namespace for two syscalls (about 8 µs) and comes back.
///
/// # Errors
/// What `setns(2)` and `socket(2)` report. If the way back fails the thread is in the wrong
/// namespace and the process aborts: nothing it does later could be trusted.
pub fn tcp_socket(home: BorrowedFd<'_>, netns: BorrowedFd<'_>, v6: bool) -> io::Result<OwnedFd> {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    visit(home, netns, || {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::socket(family, kind, 0) }.into())?;
        // SAFETY: `fd` was just opened and nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    })
}

/// Does `work` with the calling thread in `netns`, and comes back to `home`.
///
/// If the way back fails the thread is in the wrong namespace and the process aborts: nothing it
/// does later could be trusted.
pub(crate) fn visit<T>(
    home: BorrowedFd<'_>,
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    enter(netns)?;
    let done = work();
    if enter(home).is_err() {
        std::process::abort();
    }
    done
}

/// The caller's own network namespace, to come back to.
///
/// # Errors
/// What `open(2)` reports.
pub fn own() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/proc/thread-self/ns/net")?.into())
}

fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(
        netns.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )?;
    Ok(())
}
