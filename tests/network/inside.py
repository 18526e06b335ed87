"""Runs inside a sandbox: one attempt at the network, told as one line of JSON."""

import json
import socket
import ssl
import struct
import sys
import time

PATIENCE = 8


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def dial(address, port):
    stream = socket.socket(family(address))
    stream.settimeout(PATIENCE)
    stream.connect((address, int(port)))
    return stream


def read(stream, most=1 << 20):
    """What comes until the end or a pause."""
    said = b""
    while len(said) < most and (part := stream.recv(65536)):
        said += part
    return said


def http(address, host, port=80, path="/", method="GET"):
    """A request to an address that names `host`."""
    stream = dial(address, port)
    stream.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    stream.shutdown(socket.SHUT_WR)
    head, _, body = read(stream).partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else None
    return {"status": status, "body": body.decode("latin-1")}


def tls(address, name="", port=443):
    """A handshake that names `name`, and a request through it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(dial(address, port), server_hostname=name or None) as stream:
        stream.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        head, _, body = stream.recv(65536).partition(b"\r\n\r\n")
        return {"status": int(head.split()[1]), "body": body.decode()}


def echo(address, port=7, text="hello"):
    stream = dial(address, port)
    stream.sendall(text.encode())
    return {"said": stream.recv(100).decode()}


def listen(address, port=25):
    """Waits for the other side to speak first."""
    return {"said": dial(address, port).recv(100).decode()}


def udp(address, port, patience=3):
    stream = socket.socket(family(address), socket.SOCK_DGRAM)
    stream.settimeout(float(patience))
    stream.connect((address, int(port)))
    stream.send(b"hello")
    return {"said": stream.recv(100).decode("latin-1")}


def ask(server, name, kind="A", over="udp", room=0):
    """A question to a name server: its code, the name that it repeats, and the data of its answers. With `room` it
    says by EDNS how long an answer may be."""
    number = {"A": 1, "NULL": 10, "PTR": 12, "TXT": 16, "AAAA": 28, "HTTPS": 65}[kind]
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    edns = b"\0" + struct.pack("!HHIH", 41, int(room), 0, 0) if int(room) else b""
    head = b"\x12\x34\x01\x00\x00\x01\0\0\0\0" + struct.pack("!H", bool(edns))
    question = labels + b"\0" + struct.pack("!HH", number, 1)
    query = head + question + edns
    if over == "tcp":
        stream = dial(server, 53)
        stream.sendall(struct.pack("!H", len(query)) + query)
        length = struct.unpack("!H", stream.recv(2, socket.MSG_WAITALL))[0]
        answer = stream.recv(length, socket.MSG_WAITALL)
    else:
        stream = socket.socket(family(server), socket.SOCK_DGRAM)
        stream.settimeout(PATIENCE)
        stream.connect((server, 53))
        stream.send(query)
        answer = stream.recv(65536)
    assert answer[:2] == b"\x12\x34"
    code, cut = answer[3] & 15, bool(answer[2] & 2)
    at, found = len(head + question), []
    for _ in range(struct.unpack("!H", answer[6:8])[0]):
        at += 2
        kind, _, _, length = struct.unpack("!HHIH", answer[at : at + 10])
        data = answer[at + 10 : at + 10 + length]
        at += 10 + length
        plain = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        found.append(socket.inet_ntop(plain, data) if plain else data.decode("latin-1"))
    repeated = answer[12 : 12 + len(labels)] == labels
    return {"code": code, "cut": cut, "found": found, "repeated": repeated, "edns": answer[10:12] != b"\0\0", "length": len(answer)}


def resolve(name):
    """As programs do, by the C library."""
    return {"found": sorted({info[4][0] for info in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})}


def attempt(how, *arguments):
    began = time.monotonic()
    try:
        found = globals()[how](*arguments)
    except (OSError, AssertionError) as error:
        found = {"error": type(error).__name__, "text": str(error)}
    return {**found, "seconds": time.monotonic() - began}


if __name__ == "__main__":
    print(json.dumps([attempt(*line) for line in json.loads(sys.argv[1])]))
