"""What the agent and the gateway parse: Connect messages, terminals, answers of a hostile process."""

import gzip
import json
import os
import struct
import time
from pathlib import Path

import e2b
import httpx
import pytest

from conftest import Agent, agent_pid, is_well
from harness import host

JSON, PROTO, STREAM = "application/json", "application/proto", "application/connect+json"
LIST = "/filesystem.Filesystem/ListDir"
START = "/process.Process/Start"


def memory(pid):
    return int(host.status(pid)["VmRSS"].split()[0]) // 1024


def frame(flags, length, payload):
    return struct.pack(">BI", flags, length) + payload


def test_connect_messages(shared):
    """78. Length prefixes that lie, compression bombs, unknown codecs, deep nesting, headers without end: typed errors, flat memory."""
    agent, pid, server = Agent(shared), agent_pid(shared), int(os.environ["SOULBOX_SERVER_PID"])
    before, server_before = memory(pid), memory(server)
    bomb = gzip.compress(b'{"path":"' + b"a" * (200 << 20) + b'"}', 1)
    start = json.dumps({"process": {"cmd": "true"}}).encode()
    cases = [
        (START, STREAM, frame(0, 0xFFFFFFFF, b"{}"), {}),
        (START, STREAM, frame(0, 0x7FFFFFFF, start), {}),
        (START, STREAM, frame(0xFF, len(start), start), {}),
        (START, STREAM, frame(2, len(start), start), {}),
        (START, STREAM, frame(1, len(bomb), bomb), {"Connect-Content-Encoding": "gzip"}),
        (START, STREAM, frame(1, 4, b"\x1f\x8b\x08\x00"), {"Connect-Content-Encoding": "gzip"}),
        (START, STREAM, frame(0, 0, b"") * 2000, {}),
        (START, STREAM, b"\x00", {}),
        (START, STREAM, b"", {}),
        (START, "application/connect+proto", frame(0, 12, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"), {}),
        (LIST, JSON, bomb, {"Content-Encoding": "gzip"}),
        (LIST, JSON, b"[" * 100_000, {}),
        (LIST, JSON, b'{"path":' + b'{"a":' * 50_000, {}),
        (LIST, JSON, b'{"path":"/","depth":4294967296}', {}),
        (LIST, JSON, b'{"path":"/","depth":-1}', {}),
        (LIST, JSON, b"\xff\xfe", {}),
        (LIST, PROTO, b"\x0a\xff\xff\xff\xff\x0f", {}),
        (LIST, PROTO, b"\x0b" * 5000, {}),
        (LIST, "application/xml", b"<a/>", {}),
        (LIST, JSON, b"{}", {"Content-Encoding": "br"}),
        (LIST, JSON, b"{}", {"Connect-Timeout-Ms": "99999999999999999999"}),
        (LIST, JSON, b"{}", {"Connect-Protocol-Version": "9"}),
        (LIST, JSON, b"{}", {"Authorization": "Basic " + "A" * 6000}),
        (LIST, JSON, b"{}", {f"X-{n}": "v" * 200 for n in range(500)}),
        ("/process.Process/NoSuch", JSON, b"{}", {}),
        ("/" + "a" * 20_000, JSON, b"{}", {}),
    ]
    for path, kind, body, headers in cases:
        try:
            answer = agent("POST", path, content=body, headers={"Content-Type": kind, **headers})
        except httpx.RemoteProtocolError:
            continue
        assert answer.status_code != 500 and len(answer.content) < 1 << 20, f"{path} {kind} {body[:30]} {headers}: {answer.status_code} {answer.text[:200]}"
        assert "panicked" not in answer.text
    assert is_well(shared)
    assert agent_pid(shared) == pid
    assert memory(pid) - before < 64, "the agent kept what it was sent"
    assert memory(server) - server_before < 64, "the server kept what it was sent"


@pytest.mark.parametrize(("rows", "cols"), [(0, 0), (65535, 65535), (0xFFFFFFFF, 0xFFFFFFFF), (1, 70000)])
def test_terminals(shared, rows, cols):
    """79. Sizes that are none, escape sequences, and a binary paste."""
    try:
        terminal = shared.pty.create(size=e2b.PtySize(rows=rows, cols=cols), timeout=20)
    except e2b.SandboxException:
        assert is_well(shared)
        return
    for size in ((0, 0), (65535, 65535), (0xFFFFFFFF, 1)):
        try:
            shared.pty.resize(terminal.pid, e2b.PtySize(rows=size[0], cols=size[1]))
        except e2b.SandboxException:
            pass
    for paste in (bytes(range(256)) * 16, b"\x03\x03\nprintf '\\033[?1049h\\033]0;%s\\007\\033[99999999999999999;1H'\n" * 20):
        try:
            shared.pty.send_stdin(terminal.pid, paste)
        except e2b.NotFoundException:
            break  # The paste holds an end of input, at which the shell may leave.
    shared.pty.kill(terminal.pid)
    assert is_well(shared)


def test_processes_that_are_not_ours(shared):
    """79. Input, signals and sizes for processes that the API did not start, PID 1 among them."""
    agent = Agent(shared)
    for pid in (0, 1, 0xFFFFFFFF, 4194304):
        for path, body in (
            ("/process.Process/SendSignal", {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"}),
            ("/process.Process/SendInput", {"process": {"pid": pid}, "input": {"stdin": "QQ=="}}),
            ("/process.Process/Update", {"process": {"pid": pid}, "pty": {"size": {"rows": 1, "cols": 1}}}),
        ):
            answer = agent("POST", path, content=json.dumps(body), headers={"Content-Type": JSON})
            assert answer.status_code in (400, 404), f"{path} {pid}: {answer.status_code} {answer.text}"
    assert is_well(shared)


HOSTILE_SERVER = r'''
import os, socket, sys, threading
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"a" * (4 << 20),
    b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
    b"\x00" * 100000, b"HTTP/9.9 999 Z\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\n\r\n" + b"z" * 100, b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    b"",
]
def serve(connection, answer):
    with connection:
        connection.recv(65536)
        try: connection.sendall(answer)
        except OSError: pass
listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); listener.bind(("127.0.0.1", 9090)); listener.listen(64)
open("/tmp/hostile-ready", "w").close()
while True:
    for answer in ANSWERS:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, answer), daemon=True).start()
'''


def test_answers_of_a_hostile_port(shared, neighbour):
    """77. A server inside that breaks every rule of HTTP: the gateway answers 502 or passes it on, and keeps nothing."""
    server = int(os.environ["SOULBOX_SERVER_PID"])
    before = memory(server)
    shared.files.write("/tmp/hostile.py", HOSTILE_SERVER)
    running = shared.commands.run("exec python3 /tmp/hostile.py", background=True, timeout=0)
    deadline = time.monotonic() + 5
    while not shared.files.exists("/tmp/hostile-ready"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    url = os.environ["E2B_SANDBOX_URL"].rstrip("/")
    headers = {"E2b-Sandbox-Id": shared.sandbox_id, "E2b-Sandbox-Port": "9090"}
    codes = []
    for _ in range(22):
        try:
            answer = httpx.get(url, headers=headers, timeout=3)
            codes.append(answer.status_code)
            assert "evil" not in answer.headers.get("set-cookie", "")
        except httpx.HTTPError as error:
            codes.append(type(error).__name__)
    running.kill()
    assert 502 in codes
    assert is_well(shared) and is_well(neighbour)
    assert memory(server) - before < 64, codes
