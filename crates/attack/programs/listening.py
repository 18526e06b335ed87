# Listens at every address for whatever comes to one port, and writes it down; talks to itself meanwhile.
import select
tcp, udp = socket.create_server(("", 7070), family=socket.AF_INET6, dualstack_ipv6=True), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(41, 26, 0)
udp.bind(("::", 7070))
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(("127.0.0.1", 0))
open("/tmp/listening", "w").close()
met, end = open("/tmp/met", "w", buffering=1), time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    own.sendto(b"of-the-neighbour", ("127.0.0.1", 7070))
    for s in select.select([tcp, udp], [], [], 0.05)[0]:
        if s is tcp:
            s, _ = tcp.accept()
            s.settimeout(0.5)
            met.write("tcp %r\n" % attempt(s.recv, 100))
        else:
            data = s.recv(100)
            if data != b"of-the-neighbour":
                met.write("udp %r\n" % data)
