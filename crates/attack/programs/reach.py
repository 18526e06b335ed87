# Connects to each address of the arguments and asks for something over HTTP; tells who answered. The
# words with which SoulBox refuses a connection are no answer.
def is_refusal(said):
    return said.startswith(b"HTTP/1.1 403 ") and b"\r\nx-soulbox: egress\r\n" in said
answered, tried, refused = [], 0, 0
for target in sys.argv[1:]:
    host, port = target.rsplit("|", 1)
    try:
        infos = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        tried += 1
        continue
    for family, kind, protocol, _, address in infos[:2]:
        tried += 1
        s = socket.socket(family, kind)
        s.settimeout(0.5)
        try:
            s.connect(address)
            s.sendall(b"GET /latest/meta-data/ HTTP/1.0\r\nHost: x\r\nMetadata: true\r\nMetadata-Flavor: Google\r\n\r\n")
            said = s.recv(600)
            if is_refusal(said):
                refused += 1
            elif said:
                answered.append(target)
        except OSError:
            pass
        finally:
            s.close()
    try:
        u = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        u.settimeout(0.05)
        u.sendto(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01", (host, int(port)))
        said = u.recv(600)
        # Whatever server is asked, ours answers, that there is no such name.
        if port != "53" or said[3] & 15 != 3:
            answered.append(target + " udp")
    except OSError:
        pass
tell({"answered": answered, "tried": tried, "refused": refused, "interfaces": [n for _, n in socket.if_nameindex()]})
