//! What passes the interfaces of this machine's own network.

use std::{
    io,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with,
    sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout},
};

/// `ETH_P_ALL` of `linux/if_ether.h`.
const EVERYTHING: u16 = 3;
const GLANCE: Duration = Duration::from_millis(50);
const ROOM: usize = 16 << 20;

/// Watches for packets that hold some text, in whatever case.
#[derive(Debug)]
pub(crate) struct Packets {
    stop: Arc<AtomicBool>,
    watching: JoinHandle<Vec<usize>>,
}

impl Packets {
    /// Counts packets with each of `needles`, in lower case, from now on.
    pub(crate) fn watch(needles: Vec<String>) -> io::Result<Self> {
        let protocol = NonZeroU32::new(u32::from(EVERYTHING.to_be())).map(Protocol::from_raw);
        let socket =
            socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(GLANCE))?;
        // What passes on a busy machine waits here; less room is no reason not to look.
        let _ = set_socket_recv_buffer_size_force(&socket, ROOM);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watching = std::thread::spawn(move || {
            let mut found = vec![0; needles.len()];
            let mut packet = vec![0; 1 << 16];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, _)) = recv(&socket, packet.as_mut_slice(), RecvFlags::empty())
                else {
                    continue;
                };
                let bytes = packet.get_mut(..length).unwrap_or_default();
                bytes.make_ascii_lowercase();
                for (count, needle) in found.iter_mut().zip(&needles) {
                    let holds = |part: &[u8]| part == needle.as_bytes();
                    *count += usize::from(bytes.windows(needle.len()).any(holds));
                }
            }
            found
        });
        Ok(Self { stop, watching })
    }

    /// How many packets held each.
    pub(crate) fn seen(self) -> io::Result<Vec<usize>> {
        // What was sent a moment ago is still on its way to us.
        std::thread::sleep(GLANCE * 2);
        self.stop.store(true, Ordering::Relaxed);
        self.watching.join().map_err(|_| io::Error::other("the thread that watches packets died"))
    }
}
