# Tries to change how this network leads outside: links, addresses, routes, rules, the program at the
# look-up of sockets, options that pass by it, and the ports of what listens for it.
import fcntl
ours, failed = {}, {}
def note(what, function, *arguments):
    result = attempt(function, *arguments)
    (failed if isinstance(result, str) and result.startswith("E") else ours)[what] = result
def netlink(kind, flags, body):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.settimeout(2)
    s.send(struct.pack("=IHHII", 16 + len(body), kind, flags | 5, 1, 0) + body)
    number = struct.unpack("=i", s.recv(4096)[16:20])[0]
    if number:
        raise OSError(-number, "refused")
def attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
local = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 255, 4, 254, 2, 0)
main = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 1, 0)
note("delete the route", netlink, 25, 0, local + attribute(4, struct.pack("=I", 1)))
note("add a route", netlink, 24, 0x400, main + attribute(4, struct.pack("=I", 1)))
note("add a blackhole", netlink, 24, 0x400, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 6, 0))
note("lo down", netlink, 16, 0, struct.pack("=BBHiII", 0, 0, 0, 1, 0, 1))
note("add an address", netlink, 20, 0x400, struct.pack("=BBBBI", 2, 32, 0, 0, 1) + attribute(2, bytes([192, 168, 1, 1])))
note("delete an address", netlink, 21, 0, struct.pack("=BBBBI", 2, 32, 0, 0, 1) + attribute(2, bytes([10, 0, 2, 15])))
note("add a rule", netlink, 32, 0x400, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0))
for kind in ("dummy", "veth", "bridge", "ipvlan", "macvlan", "vxlan", "wireguard", "tun"):
    link = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attribute(3, b"x0\0") + attribute(18, attribute(1, kind.encode()))
    note("add a " + kind, netlink, 16, 0x600, link)
note("move to another namespace", netlink, 16, 0, struct.pack("=BBHiII", 0, 0, 0, 1, 0, 0) + attribute(19, struct.pack("=I", 1)))
inet = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for name, number in (("flags", 0x8914), ("address", 0x8916), ("route", 0x890B), ("name", 0x8923), ("mac", 0x8924)):
    note("ioctl " + name, fcntl.ioctl, inet, number, b"lo".ljust(16, b"\0") + bytes(24))
for command in range(0, 40):
    if raw(321, command, ctypes.create_string_buffer(128), 128) >= 0:
        ours["bpf %d" % command] = "allowed"
def option(level, name, value, kind=socket.SOCK_STREAM, family=socket.AF_INET):
    socket.socket(family, kind).setsockopt(level, name, value)
note("attach a program", option, 1, 50, 3)
note("attach a program to a group", option, 1, 52, 3)
def listen(address, port, kind):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    s.setsockopt(1, 2, 1)
    s.setsockopt(1, 15, 1)
    # Root may do these, and must gain nothing by them.
    for level, name in ((0, 19), (0, 15), (1, 36), (41, 75), (41, 78)):
        attempt(s.setsockopt, level, name, 1)
    s.bind((address, port))
    if kind == socket.SOCK_STREAM:
        s.listen()
    return s
# What binds to somebody else's address must not get what is sent there.
held, reached = [], []
for address, port, kind in (("0.0.0.0", 7777, 1), ("::", 7778, 1), ("93.184.216.34", 7777, 1), ("2606:4700::1111", 7778, 1)):
    s = attempt(listen, address, port, kind)
    if not isinstance(s, str):
        s.setblocking(False)
        held.append(s)
for address, port in (("93.184.216.34", 7777), ("2606:4700::1111", 7778)):
    c = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    c.settimeout(2)
    for level, name in ((0, 19), (0, 15), (1, 36), (41, 75), (41, 78)):
        attempt(c.setsockopt, level, name, 1)
    attempt(c.bind, (address, 0))
    attempt(c.connect, (address, port))
for s in held:
    if not isinstance(attempt(s.accept), str):
        reached.append(str(s.getsockname()))
for address in ("0.0.0.0", "127.0.0.1", "93.184.216.34"):
    s = attempt(listen, address, 53, 2)
    if not isinstance(s, str):
        s.settimeout(0.5)
        c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        attempt(c.sendto, b"\x12\x34\1\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1", ("93.184.216.34", 53))
        if not isinstance(attempt(s.recv, 100), str):
            reached.append("questions at " + address)
        s.close()
tell({"ours": ours, "failed": failed, "reached": reached, "interfaces": [n for _, n in socket.if_nameindex()]})
