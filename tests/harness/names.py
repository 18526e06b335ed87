"""A name server for one domain, seen by one program: no entry of the machine is changed."""

import socket
import struct
import threading

ADDRESS = "127.0.9.53"


class Names:
    """Answers every name below `domain` with 127.0.0.1 until it is closed."""

    def __init__(self, domain):
        self.domain = domain
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((ADDRESS, 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                query, client = self.socket.recvfrom(4096)
            except OSError:
                return
            name, end = question(query)
            kind = struct.unpack("!H", query[end : end + 2])[0]
            known = name == self.domain or name.endswith("." + self.domain)
            record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + socket.inet_aton("127.0.0.1")
            answers = [record] if known and kind == 1 else []
            flags = 0x8580 if known else 0x8583
            header = query[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0)
            self.socket.sendto(header + query[12 : end + 4] + b"".join(answers), client)

    def close(self):
        self.socket.close()

    def seen_by(self, command, resolv_conf):
        """The command, run so that it asks this server."""
        resolv_conf.write_text(f"nameserver {ADDRESS}\noptions timeout:2\n")
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, str(resolv_conf), *command]


def question(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace").lower())
        at += 1 + query[at]
    return ".".join(labels), at + 1
