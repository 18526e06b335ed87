"""The world's end of the cable: every address answers here.

Started by `world.py` with its directory; writes what it sees as lines of JSON to `log` there.
"""

import asyncio
import hashlib
import json
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

from names import Names
from protocols import http2, web_socket
from world import HTTP2, OTHER, OTHER6, WEB_SOCKET, WORLD, WORLD6, leave_the_machine

ETHERTYPES = {0x0800: 4, 0x86DD: 6}
IPV6_TRANSPARENT = 75
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}


class World:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.log = (self.directory / "log").open("a", buffering=1)

    def note(self, what, **more):
        self.log.write(json.dumps({"what": what, **more}) + "\n")

    async def run(self):
        loop = asyncio.get_running_loop()
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(3))
        loop.add_reader(sniffer, self.sniff, sniffer)
        names = Names(self.directory / "zone", self.note)
        await names.serve(WORLD)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.directory / "ca/site.pem", self.directory / "ca/site.key")
        context.sni_callback = lambda tls, name, _: self.note("sni", name=name)
        for port, serve, tls in (
            (80, self.http, None),
            (8080, self.http, None),
            (443, self.http, context),
            (8443, self.http, context),
            (7, self.echo, None),
            (9, self.never_reads, None),
            (25, self.speaks_first, None),
            (5000, self.digest, None),
            (5001, self.pours, None),
            (1080, self.socks, None),
            (1443, self.socks, context),
        ):
            await self.listen(port, serve, tls)
        for port in (7, 123):
            self.datagrams(loop, port)
        await web_socket(self.listener(443, WEB_SOCKET), context, self.note)
        only = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        only.load_cert_chain(self.directory / "ca/site.pem", self.directory / "ca/site.key")
        only.set_alpn_protocols(["h2"])
        await http2(self.listener(443, HTTP2), only, self.note)
        print("ready", flush=True)
        await asyncio.Event().wait()

    def datagrams(self, loop, port):
        """Sends back what comes; of `forge…`, forged answers from elsewhere first."""
        listener, forger = datagram_socket(port), datagram_socket(port + 1000)

        def receive():
            data, control, _, client = listener.recvmsg(65536, 1024)
            [to] = [value for _, kind, value in control if kind == socket.IPV6_PKTINFO]
            self.note("datagram", to=plain(to[:16]), port=port, length=len(data), by=client[1])
            if data.startswith(b"forge"):
                elsewhere = mapped(OTHER6 if ":" in plain(to[:16]) else OTHER)
                for sender, source in ((listener, elsewhere), (forger, to[:16])):
                    sender.sendmsg([b"forged"], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source + bytes(4))], 0, client)
            listener.sendmsg([data], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, to[:16] + bytes(4))], 0, client)

        loop.add_reader(listener, receive)

    async def listen(self, port, serve, tls):
        async def accepted(reader, writer):
            local, peer = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
            to = local[0].removeprefix("::ffff:")
            self.note("tcp", to=to, port=port, by=peer[0].removeprefix("::ffff:"))
            try:
                await serve(reader, writer, to)
            except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                pass
            finally:
                self.note("closed", to=to, port=port)
                writer.close()

        await asyncio.start_server(accepted, sock=self.listener(port), ssl=tls, backlog=1024)

    @staticmethod
    def listener(port, address=None):
        """At every address, or at one of IPv4, which goes before."""
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Answers leave with the address that was called, which no table but our own knows as local.
        listener.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        listener.bind((f"::ffff:{address}" if address else "::", port))
        return listener

    def sniff(self, sniffer):
        """Notes what arrives, but for the traffic of connections that are open and for neighbour discovery."""
        while True:
            try:
                packet, where = sniffer.recvfrom(65536)
            except BlockingIOError:
                return
            version = ETHERTYPES.get(where[1])
            if where[0] == "lo" or where[2] == socket.PACKET_OUTGOING or version is None:
                continue
            if version == 4:
                protocol, head = packet[9], (packet[0] & 15) * 4
                to = socket.inet_ntop(socket.AF_INET, packet[16:20])
            else:
                protocol, head = packet[6], 40
                to = socket.inet_ntop(socket.AF_INET6, packet[24:40])
                if protocol == 58 or to.startswith("ff02:"):
                    continue
            port = struct.unpack("!H", packet[head + 2 : head + 4])[0] if protocol in (6, 17) else None
            if protocol == 6 and packet[head + 13] & 0x12 != 0x02:
                continue
            self.note("packet", protocol=PROTOCOLS.get(protocol, protocol), to=to, port=port)

    async def http(self, reader, writer, to):
        """Files of the host, else what was asked, as JSON. One request after the other."""
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except asyncio.IncompleteReadError:
                return
            line, *fields = head.split("\r\n")
            method, path, _ = line.split(" ", 2)
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields if field)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            host = headers.get("host", "").split(":")[0]
            self.note("http", to=to, host=host, method=method, path=path, headers=headers)
            root = self.directory / "www" / host if host else None
            more = ""
            if path == "/never":
                # Until the other side has enough of it.
                await reader.read()
                return
            if path == "/stalls":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
                await reader.read()
                return
            if path == "/tunnel":
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                await self.echo(reader, writer, to)
                # Its own side it never closes.
                await asyncio.sleep(60)
                return
            if path == "/late":
                await asyncio.sleep(2)
            if path.startswith("/names?"):
                more = f"x-{path.partition('?')[2]}: told\r\n"
            if path.startswith("/redirect?to="):
                status, kind, answer = "302 Found", "text/plain", b""
                more = f"location: {unquote(path.partition('=')[2])}\r\n"
            elif root is not None and root.is_dir():
                file = root / path.split("?")[0].lstrip("/")
                file = file / "index.html" if file.is_dir() else file
                status, answer = ("200 OK", file.read_bytes()) if file.is_file() else ("404 Not Found", b"no such file\n")
                kind = "text/html" if file.suffix == ".html" else "application/json" if not file.suffix else "application/octet-stream"
            else:
                status, kind = "200 OK", "application/json"
                said = {"to": to, "host": headers.get("host"), "method": method, "path": path, "headers": headers, "length": len(body)}
                answer = json.dumps(said).encode()
            sent = b"" if method == "HEAD" else answer
            writer.write(f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(answer)}\r\n{more}\r\n".encode() + sent)
            await writer.drain()

    async def echo(self, reader, writer, _):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def never_reads(self, reader, writer, _):
        writer.transport.pause_reading()
        await asyncio.sleep(60)

    async def speaks_first(self, reader, writer, to):
        writer.write(f"220 {to}\r\n".encode())
        await writer.drain()
        await self.echo(reader, writer, to)

    async def digest(self, reader, writer, _):
        """Reads to the end of what is sent, and only then says what it was."""
        found, length = hashlib.sha256(), 0
        while data := await reader.read(65536):
            found.update(data)
            length += len(data)
        writer.write(f"{length} {found.hexdigest()}\n".encode())
        await writer.drain()

    async def socks(self, reader, writer, _):
        """SOCKS5 for the user `walker` with the password `seven-leagues`."""
        version, methods = await reader.readexactly(2)
        assert version == 5 and 2 in await reader.readexactly(methods)
        writer.write(b"\5\2")
        user = await reader.readexactly((await reader.readexactly(2))[1])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        good = (user, password) == (b"walker", b"seven-leagues")
        writer.write(b"\1" + (b"\0" if good else b"\1"))
        if not good:
            return
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            target = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            raw = await reader.readexactly({1: 4, 4: 16}[kind])
            target = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, raw)
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.note("socks", target=target, port=port)
        # Every address is ours: whatever was meant, the site answers.
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\5\0\0\1" + bytes(6))

        async def carry(source, sink):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()

        await asyncio.gather(carry(reader, back), carry(there, writer))
        back.close()

    async def pours(self, reader, writer, _):
        """As many bytes as the first line says, in a pattern, and its end."""
        left = int(await reader.readline())
        block = bytes(range(251)) * 257
        while left > 0:
            writer.write(block[:left])
            await writer.drain()
            left -= len(block)
        writer.write_eof()
        await reader.read()


def datagram_socket(port):
    listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    listener.bind(("::", port))
    return listener


def mapped(address):
    return socket.inet_pton(socket.AF_INET6, address if ":" in address else f"::ffff:{address}")


def plain(address):
    return socket.inet_ntop(socket.AF_INET6, address).removeprefix("::ffff:")


def plug_in():
    """Makes every address that arrives by the cable one of ours."""
    commands = [
        "link set lo up",
        f"addr add {WORLD}/24 dev world",
        f"addr add {WORLD6}/64 dev world nodad",
        "link set world up",
        "rule add iif world lookup 100 pref 10",
        "route add local default dev lo table 100",
        "-6 rule add iif world lookup 100 pref 10",
        "-6 route add local default dev lo table 100",
    ]
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def main():
    leave_the_machine()
    print("away", flush=True)
    sys.stdin.readline()
    plug_in()
    asyncio.run(World(sys.argv[1]).run())


main()
