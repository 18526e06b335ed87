use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    time::Duration,
};

use super::*;

/// Runs `inside` on a thread in a fresh namespace; `None` where tests may not make one.
fn in_namespace<T: Send + 'static>(
    inside: impl FnOnce(Outward) -> T + Send + 'static,
) -> Option<T> {
    let home = crate::netns::own().ok()?;
    std::thread::spawn(move || {
        let flags = rustix::thread::UnshareFlags::NEWNET;
        // SAFETY: the thread makes no use of what other threads expect of the namespace.
        unsafe { rustix::thread::unshare_unsafe(flags) }.ok()?;
        let netns = crate::netns::own().ok()?;
        let outward = open(home.as_fd(), netns.as_fd());
        // `open` came back to `home`; what is inside connects from the namespace.
        rustix::thread::move_into_link_name_space(netns.as_fd(), None).ok()?;
        Some(inside(outward.unwrap()))
    })
    .join()
    .unwrap()
}

#[test]
fn every_connect_reaches_the_listener_which_knows_the_destination() {
    let ran = in_namespace(|outward| {
        let listener = TcpListener::from(outward.tcp);
        listener.set_nonblocking(false).unwrap();
        for target in ["93.184.216.34:80", "[2606:4700::1111]:443", "169.254.169.254:15001"] {
            let mut client = TcpStream::connect(target).unwrap();
            let (mut served, from) = listener.accept().unwrap();
            let local = served.local_addr().unwrap();
            let shown = SocketAddrOf(local.ip().to_canonical(), local.port()).to_string();
            assert_eq!(shown, target);
            let own = [IpAddr::V4(OWN_V4), IpAddr::V6(OWN_V6)];
            assert!(own.contains(&from.ip().to_canonical()), "{from}");
            for end in [client.as_fd(), served.as_fd()] {
                let control = rustix::net::sockopt::tcp_congestion(end).unwrap();
                assert!(["cubic", "reno"].contains(&control.as_str()), "paced by {control}");
            }
            served.write_all(b"hello").unwrap();
            let mut buffer = [0; 5];
            client.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"hello");
        }
        drop((listener, outward.udp, outward.steering));
        let refused = TcpStream::connect("93.184.216.34:80").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
    if ran.is_none() {
        eprintln!("skipped: no network namespace for tests without root");
    }
}

#[test]
fn what_is_inside_stays_inside() {
    let ran = in_namespace(|outward| {
        for own in ["127.0.0.1:8000", "[::1]:8000", "10.0.2.15:8000", "[fd00:2::15]:8000"] {
            let refused = TcpStream::connect(own).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{own}");
            let local = TcpListener::bind(own).unwrap();
            let client = TcpStream::connect(own).unwrap();
            let (_, from) = local.accept().unwrap();
            assert_eq!(from, client.local_addr().unwrap());
        }
        drop(outward);
    });
    if ran.is_none() {
        eprintln!("skipped: no network namespace for tests without root");
    }
}

#[test]
fn questions_are_answered_from_the_address_that_was_asked() {
    let ran = in_namespace(|outward| {
        for (server, bind) in [("8.8.8.8:53", "0.0.0.0:0"), ("[2001:4860:4860::8888]:53", "[::]:0")]
        {
            let client = UdpSocket::bind(bind).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.connect(server).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 512];
            let got = receive(outward.udp.as_fd(), &mut buffer).unwrap();
            assert_eq!(&buffer[..got.length], b"question");
            assert_eq!(got.to.to_string(), server);
            send(outward.udp.as_fd(), b"answer", got.to.ip(), got.from).unwrap();
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"answer");
        }
        let other = UdpSocket::bind("0.0.0.0:0").unwrap();
        other.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        other.connect("8.8.8.8:443").unwrap();
        other.send(b"quic").unwrap();
        let refused = other.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
    if ran.is_none() {
        eprintln!("skipped: no network namespace for tests without root");
    }
}

#[test]
fn datagrams_go_through_open_doors_alone_and_come_back_from_where_they_went() {
    let ran = in_namespace(|outward| {
        let relay = outward.relay;
        let door =
            |prefix, address: &str, port| Door { port, address: address.parse().unwrap(), prefix };
        let open = |door| open_door(relay.doors.as_fd(), door).unwrap();
        open(door(24, "93.184.216.0", 123));
        open(door(128, "2606:4700::1111", 443));
        for (server, bind) in
            [("93.184.216.34:123", "0.0.0.0:0"), ("[2606:4700::1111]:443", "[::]:0")]
        {
            let client = to(server, bind);
            for payload in [b"".as_slice(), b"odd", &[7; 60_000]] {
                client.send(payload).unwrap();
                let mut buffer = vec![0; 65_536];
                let got = receive(relay.socket.as_fd(), &mut buffer).unwrap();
                assert_eq!((&buffer[..got.length], got.to), (payload, server.parse().unwrap()));
                answer(&relay.answers, payload, got.to, got.from).unwrap();
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], payload, "{server}");
            }
        }
        let refused = |server, bind| {
            let client = to(server, bind);
            client.send(b"x").unwrap();
            client.recv(&mut [0; 8]).unwrap_err().kind() == io::ErrorKind::ConnectionRefused
        };
        assert!(refused("93.184.217.34:123", "0.0.0.0:0"), "another network");
        assert!(refused("93.184.216.34:124", "0.0.0.0:0"), "another port");
        assert!(refused("[2606:4700::1112]:443", "[::]:0"), "another host");
        assert!(refused("[::ffff:93.184.216.34]:443", "[::]:0"), "the other family");
        close_door(relay.doors.as_fd(), door(24, "93.184.216.0", 123)).unwrap();
        assert!(refused("93.184.216.34:123", "0.0.0.0:0"), "closed");
        open(door(0, "0.0.0.0", 123));
        assert!(!refused("[2606:4700::1112]:123", "[::]:0"), "every address of both families");
    });
    if ran.is_none() {
        eprintln!("skipped: no network namespace for tests without root");
    }
}

fn to(server: &str, bind: &str) -> UdpSocket {
    let client = UdpSocket::bind(bind).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    client.connect(server).unwrap();
    client
}

/// Shown as one writes it.
struct SocketAddrOf(IpAddr, u16);

impl std::fmt::Display for SocketAddrOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::net::SocketAddr::new(self.0, self.1).fmt(f)
    }
}

use std::net::IpAddr;
