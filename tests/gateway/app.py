"""Runs inside a sandbox: a web server that does what web servers do, with the standard library alone."""

import base64
import hashlib
import json
import os
import socketserver
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/ws":
            return self.websocket()
        if path == "/events":
            return self.events()
        if path == "/echo-headers":
            return self.answer(200, json.dumps([list(h) for h in self.headers.items()]).encode())
        if path == "/target":
            return self.answer(200, json.dumps(self.path).encode())
        if path == "/raw":
            return self.raw()
        if path == "/until-you-leave":
            return self.until_you_leave()
        if path == "/large":
            return self.large()
        if path == "/cut":
            return self.cut()
        if path == "/late":
            time.sleep(3)
            return self.answer(200, b"late")
        if path == "/early-hints":
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
            return self.answer(200, b"after hints")
        if path == "/to-the-end":
            return self.to_the_end()
        if path.startswith("/status/"):
            return self.answer(int(path.rsplit("/", 1)[1]), b"" if path.endswith(("204", "304")) else b"body")
        if path == "/cookies":
            self.send_response(302)
            for cookie in ("a=1", "b=2"):
                self.send_header("Set-Cookie", cookie)
            self.send_header("Location", "/elsewhere?x=1")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.answer(200, b"hello")

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "12345")
        self.end_headers()

    def do_POST(self):
        if self.path == "/mirror":
            return self.mirror()
        digest, size = hashlib.sha256(), 0
        for chunk in self.body():
            digest.update(chunk)
            size += len(chunk)
        self.answer(200, json.dumps({"size": size, "sha256": digest.hexdigest()}).encode())

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while length := int(self.rfile.readline().split(b";")[0], 16):
                left = length
                while left:
                    chunk = self.rfile.read1(min(left, 65536))
                    left -= len(chunk)
                    yield chunk
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left:
                chunk = self.rfile.read1(min(left, 65536))
                if not chunk:
                    return
                left -= len(chunk)
                yield chunk

    def mirror(self):
        """Sends each piece back while the rest of the request is still coming."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in self.body():
            self.chunk(chunk)
        self.chunk(b"")

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(4):
            self.chunk(f"data: {number}\n\n".encode())
            seen = f"/home/user/seen-{number}"
            while not os.path.exists(seen):
                time.sleep(0.02)
            os.unlink(seen)
        self.chunk(b"")

    def large(self):
        block = bytes(range(256)) * 256
        self.send_response(200)
        self.send_header("Content-Length", str(len(block) * 1600))
        self.end_headers()
        for _ in range(1600):
            self.wfile.write(block)

    def cut(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 100)
        self.close_connection = True

    def to_the_end(self):
        """A body whose end is the end of the connection."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"until the very end")
        self.close_connection = True

    def raw(self):
        """Another protocol than HTTP: counts until the client closes its half, then answers."""
        self.send_response(101)
        self.send_header("Upgrade", "count")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.close_connection = True
        size = 0
        while piece := self.rfile.read1(65536):
            size += len(piece)
        self.wfile.write(b"%d bytes" % size)

    def until_you_leave(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b"waiting")
        self.rfile.read1(1)
        open("/home/user/client-left", "w").close()
        self.close_connection = True

    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while True:
            head = self.rfile.read(2)
            if len(head) < 2:
                return
            length = head[1] & 0x7F
            if length == 126:
                length = struct.unpack("!H", self.rfile.read(2))[0]
            elif length == 127:
                length = struct.unpack("!Q", self.rfile.read(8))[0]
            mask = self.rfile.read(4)
            data = bytearray(self.rfile.read(length))
            for i in range(4):
                data[i::4] = bytes(b ^ mask[i] for b in data[i::4])
            kind = head[0] & 0x0F
            if kind == 9:
                kind = 10
            elif kind == 10:
                continue
            header = bytes([0x80 | kind])
            if length < 126:
                header += bytes([length])
            elif length < 65536:
                header += bytes([126]) + struct.pack("!H", length)
            else:
                header += bytes([127]) + struct.pack("!Q", length)
            self.wfile.write(header + bytes(data))
            if kind == 8:
                return

    def chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/x-of-the-app")
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


Threads((sys.argv[2], int(sys.argv[1])), Handler).serve_forever()
