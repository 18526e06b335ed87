//! Messages with file descriptors over a stream socket.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors in one message.
pub const MAX_FDS: usize = 32;

/// Sends `payload` behind its length; `fds` travel with the first byte.
///
/// # Errors
/// What `sendmsg(2)` reports; `InvalidInput` for more than [`MAX_FDS`] descriptors.
pub fn send(socket: &UnixStream, payload: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let message = framed(payload)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(socket, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
    (&*socket).write_all(&message[sent..])
}

/// `payload` behind its length, as [`send`] sends it.
///
/// # Errors
/// `InvalidInput` for 4 GiB or more.
pub fn framed(payload: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = Vec::with_capacity(4 + payload.len());
    message.extend_from_slice(&len.to_le_bytes());
    message.extend_from_slice(payload);
    Ok(message)
}

/// Receives what [`send`] sent.
///
/// # Errors
/// `UnexpectedEof` when the peer is gone, `InvalidData` for more than `max` bytes, and what
/// `recvmsg(2)` reports.
pub fn receive(socket: &UnixStream, max: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut head = [0; 4];
    let mut fds = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut parts = [IoSliceMut::new(&mut head)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received.bytes,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    (&*socket).read_exact(&mut head[got..])?;
    let len = u32::from_le_bytes(head) as usize;
    if len > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; len];
    (&*socket).read_exact(&mut payload)?;
    Ok((payload, fds))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn payload_and_descriptors_arrive_together() {
        let (a, b) = UnixStream::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(&a, b"hello", &[write.as_fd()]).unwrap();
        drop(write);
        let (payload, fds) = receive(&b, 16).unwrap();
        assert_eq!(payload, b"hello");
        rustix::io::write(&fds[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn an_oversized_message_is_refused() {
        let (a, b) = UnixStream::pair().unwrap();
        send(&a, &[0; 100], &[]).unwrap();
        assert_eq!(receive(&b, 99).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_gone_peer_is_an_error() {
        let (a, b) = UnixStream::pair().unwrap();
        drop(a);
        assert_eq!(receive(&b, 9).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
