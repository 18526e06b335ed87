# Listens to all that a raw socket can hear, for some seconds, and sends what is forged meanwhile: from
# the addresses of others, to neighbours, groups and everybody. Tells what was heard that was not sent here.
import select
seconds, secret = float(sys.argv[1]), sys.argv[2].encode()
refused, ears = {}, []
for name, arguments in (
    ("packet", (17, 3, 768)), ("packet datagrams", (17, 2, 768)), ("tcp", (2, 3, 6)), ("udp", (2, 3, 17)),
    ("icmp", (2, 3, 1)), ("icmp6", (10, 3, 58)), ("raw", (2, 3, 255)), ("igmp", (2, 3, 2)),
):
    s = attempt(socket.socket, *arguments)
    if isinstance(s, str):
        refused[name] = s
    else:
        s.setblocking(False)
        ears.append(s)
def forged(source, target, payload):
    head = struct.pack("!BBHHHBBH4s4s", 69, 0, 28 + len(payload), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target))
    return head + struct.pack("!HHHH", 7070, 7070, 8 + len(payload), 0) + payload
sent = 0
raw_socket = attempt(socket.socket, 2, 3, 255)
targets = ("10.0.2.15", "10.0.2.16", "10.0.2.255", "224.0.0.1", "255.255.255.255", "169.254.169.254")
heard, end = [], time.monotonic() + seconds
while time.monotonic() < end:
    for target in targets:
        if not isinstance(raw_socket, str):
            for source in ("10.0.2.16", "10.0.2.15", "127.0.0.1", "8.8.8.8"):
                sent += not isinstance(attempt(raw_socket.sendto, forged(source, target, secret), (target, 0)), str)
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        u.setsockopt(1, 6, 1)
        sent += not isinstance(attempt(u.sendto, secret, (target, 7070)), str)
        t = socket.socket()
        t.settimeout(0.2)
        if not isinstance(attempt(t.connect, (target, 7070)), str):
            attempt(t.sendall, secret)
        t.close()
    for group in ("ff02::1", "ff02::2", "fe80::1", "fd00:2::16"):
        u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sent += not isinstance(attempt(u.sendto, secret, (group, 7070, 0, 1)), str)
    for s in select.select(ears, [], [], 0.01)[0] if ears else ():
        data = attempt(s.recv, 65536)
        if isinstance(data, bytes) and b"of-the-neighbour" in data:
            heard.append(data[:60].hex())
tell({"refused": refused, "sent": sent, "heard": heard, "interfaces": [n for _, n in socket.if_nameindex()]})
