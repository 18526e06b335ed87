"""The world's name server, over UDP and TCP, with EDNS."""

import asyncio
import json
import socket
import struct

KINDS = {1: "A", 2: "NS", 5: "CNAME", 10: "NULL", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS", 255: "ANY"}
CUT = 0x0200
EDNS = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
# The value of a name of which nobody says anything.
SILENCE = "silence"


class Names:
    """Answers from a zone that is read anew for each question, and notes each one."""

    def __init__(self, zone, note):
        self.zone, self.note = zone, note

    async def serve(self, address):
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: Datagrams(self), local_addr=(address, 53))
        await asyncio.start_server(self.stream, address, 53)

    async def stream(self, reader, writer):
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                if answer := self.answer(await reader.readexactly(length), "tcp", 65535):
                    writer.write(struct.pack("!H", len(answer)) + answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, query, over, most):
        name, end = question(query)
        kind = struct.unpack("!H", query[end : end + 2])[0]
        shown = KINDS.get(kind, str(kind))
        self.note("dns", name=name, kind=shown, over=over)
        known = json.loads(self.zone.read_text()).get(name)
        if known == SILENCE:
            return None
        records = list(record_data(known, shown)) if known is not None else []
        answers = [b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 5, len(data)) + data for data in records]
        flags = 0x8180 if known is not None else 0x8183
        if 12 + end + 4 + sum(map(len, answers)) > most:
            flags, answers = flags | CUT, []
        edns = EDNS if query[10:12] != b"\0\0" else b""
        head = query[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, bool(edns))
        return head + query[12 : end + 4] + b"".join(answers) + edns


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, names):
        self.names = names

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, query, client):
        if answer := self.names.answer(query, "udp", 1200):
            self.transport.sendto(answer, client)


def record_data(known, kind):
    if kind == "TXT" and isinstance(known, dict):
        for text in known.get("TXT", []):
            data = text.encode()
            yield b"".join(bytes([len(part)]) + part for part in (data[at : at + 255] for at in range(0, len(data), 255)))
    family = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}.get(kind)
    for address in known if isinstance(known, list) else []:
        if family is not None and (":" in address) == (kind == "AAAA"):
            yield socket.inet_pton(family, address)


def question(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace").lower())
        at += 1 + query[at]
    return ".".join(labels), at + 1
