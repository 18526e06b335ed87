"""Bodies of every kind pass through whole, in both directions, as they come."""

import hashlib
import json
import os
import random
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
import websockets
from websockets.sync.client import connect

from conftest import create, serve


def memory_of(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def test_requests_arrive_as_sent(gateway, app):
    answer = gateway.get("/target?a=1&b=%2F%20&c", gateway.host(app))
    assert answer.json() == "/target?a=1&b=%2F%20&c"
    headers = {**gateway.host(app), "X-Custom": "ü".encode(), "Cookie": "a=b; c=d", "Accept-Encoding": "br"}
    seen = {}
    for name, value in gateway.get("/echo-headers", headers).json():
        seen.setdefault(name.lower(), []).append(value)
    assert seen["host"] == [app.get_host(8080)]
    assert seen["cookie"] == ["a=b; c=d"]
    assert seen["accept-encoding"] == ["br"]
    assert "x-custom" in seen


def test_the_client_cannot_forge_where_it_comes_from(gateway, app):
    headers = {**gateway.host(app), "X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4", "X-Forwarded-Host": "x"}
    names = [name.lower() for name, _ in gateway.get("/echo-headers", headers).json()]
    assert not [name for name in names if "forwarded" in name]


def test_hop_by_hop_headers_stay_on_their_hop(gateway, app):
    headers = {**gateway.host(app), "Connection": "close, X-Private", "X-Private": "1", "TE": "gzip"}
    names = [name.lower() for name, _ in gateway.get("/echo-headers", headers).json()]
    assert "x-private" not in names and "te" not in names


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 418, 500, 502, 503])
def test_statuses_of_the_app_stay_its_own(gateway, app, status):
    answer = gateway.get(f"/status/{status}", gateway.host(app))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/x-of-the-app"


def test_redirects_and_cookies_pass(gateway, app):
    answer = gateway.get("/cookies", gateway.host(app), follow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["location"] == "/elsewhere?x=1"
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_head_keeps_the_length_and_sends_no_body(gateway, app):
    answer = httpx.head(gateway.url + "/", headers=gateway.host(app))
    assert answer.headers["content-length"] == "12345" and answer.content == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods_and_bodies(gateway, app, method):
    data = random.Random(9).randbytes(100_000)
    answer = httpx.request(method, gateway.url + "/x", headers=gateway.host(app), content=data)
    assert answer.json() == {"size": 100_000, "sha256": hashlib.sha256(data).hexdigest()}


def test_a_hundred_megabytes_up_without_buffering(gateway, app):
    block = random.Random(10).randbytes(1 << 20)
    digest = hashlib.sha256()
    server = int(os.environ["SOULBOX_SERVER_PID"])
    before, peak = memory_of(server), [0]

    def blocks():
        for _ in range(100):
            digest.update(block)
            peak[0] = max(peak[0], memory_of(server))
            yield block

    answer = httpx.post(gateway.url + "/x", headers=gateway.host(app), content=blocks(), timeout=120)
    assert answer.json() == {"size": 100 << 20, "sha256": digest.hexdigest()}
    assert peak[0] - before < 40 << 20


def test_a_hundred_megabytes_down_without_buffering(gateway, app):
    server = int(os.environ["SOULBOX_SERVER_PID"])
    before, peak, size = memory_of(server), 0, 0
    with httpx.stream("GET", gateway.url + "/large", headers=gateway.host(app), timeout=120) as answer:
        for chunk in answer.iter_raw(1 << 20):
            size += len(chunk)
            peak = max(peak, memory_of(server))
    assert size == 65536 * 1600
    assert peak - before < 40 << 20


def test_a_slow_reader_holds_the_app_back(gateway, app):
    """With nobody reading, at most some socket buffers fill: nothing piles up in the server."""
    server = int(os.environ["SOULBOX_SERVER_PID"])
    before = memory_of(server)
    with gateway.dial() as client:
        client.sendall(f"GET /large HTTP/1.1\r\nHost: {app.get_host(8080)}\r\n\r\n".encode())
        client.recv(1000)
        time.sleep(1.5)
        assert memory_of(server) - before < 20 << 20


def test_events_arrive_one_by_one(gateway, app):
    """The next one is not sent before the one before has arrived."""
    data = []
    with httpx.stream("GET", gateway.url + "/events", headers=gateway.host(app), timeout=20) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        for line in answer.iter_lines():
            if line:
                app.files.write(f"/home/user/seen-{len(data)}", "")
                data.append(line)
    assert data == [f"data: {n}" for n in range(4)]


def test_both_directions_at_once(gateway, app):
    """The answer flows while the request is still being sent."""
    with gateway.dial() as client:
        client.sendall(f"POST /mirror HTTP/1.1\r\nHost: {app.get_host(8080)}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        seen = b""
        for word in (b"first", b"second", b"third"):
            client.sendall(f"{len(word):x}\r\n".encode() + word + b"\r\n")
            while word not in seen:
                piece = client.recv(4096)
                assert piece, seen
                seen += piece
        client.sendall(b"0\r\n\r\n")
        while not seen.endswith(b"0\r\n\r\n"):
            piece = client.recv(4096)
            assert piece, seen
            seen += piece


def test_half_a_connection_may_close_first(gateway, app):
    """After an upgrade each direction ends on its own."""
    with gateway.dial() as client:
        head = f"GET /raw HTTP/1.1\r\nHost: {app.get_host(8080)}\r\nUpgrade: count\r\nConnection: Upgrade\r\n\r\n"
        client.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101")
        client.sendall(b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(4096):
            answer += piece
    assert answer.endswith(b"100000 bytes")


def test_the_app_learns_that_its_client_left(gateway, app):
    with gateway.dial() as client:
        client.sendall(f"GET /until-you-leave HTTP/1.1\r\nHost: {app.get_host(8080)}\r\n\r\n".encode())
        answer = b""
        while b"waiting" not in answer:
            answer += client.recv(4096)
    deadline = time.monotonic() + 15
    while not app.files.exists("/home/user/client-left"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_body_that_ends_with_the_connection(gateway, app):
    assert gateway.get("/to-the-end", gateway.host(app)).text == "until the very end"


def test_a_cut_body_is_an_error_and_not_a_short_file(gateway, app):
    with pytest.raises(httpx.RemoteProtocolError):
        gateway.get("/cut", gateway.host(app))


def test_an_interim_answer_does_not_confuse(gateway, app):
    assert gateway.get("/early-hints", gateway.host(app)).text == "after hints"


def test_expect_continue(gateway, app):
    with gateway.dial() as client:
        client.sendall(
            f"POST /x HTTP/1.1\r\nHost: {app.get_host(8080)}\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 100")
        client.sendall(b"12345")
        answer = b""
        while piece := client.recv(4096):
            answer += piece
    assert json.loads(answer.split(b"\r\n\r\n")[-1])["size"] == 5


def test_one_connection_for_two_sandboxes(gateway, app):
    """Routing is decided per request, whatever the connection carried before."""
    other = serve(gateway, create())
    try:
        app.files.write("/home/user/who", "a")
        with httpx.Client() as client:
            for _ in range(10):
                for sandbox in (app, other):
                    answer = client.get(gateway.url + "/echo-headers", headers=gateway.host(sandbox))
                    hosts = [value for name, value in answer.json() if name.lower() == "host"]
                    assert hosts == [sandbox.get_host(8080)]
                assert client.get(gateway.url + "/sandboxes").status_code == 401
    finally:
        other.kill()


def websocket(gateway, app, **options):
    return connect(
        f"ws://{app.get_host(8080)}/ws", sock=gateway.dial(), compression=None, max_size=None, open_timeout=10, **options
    )


def test_websocket(gateway, app):
    with websocket(gateway, app) as client:
        for message in ["text ☃", b"\x00\xff" * 100, "x" * 1_000_000, ""]:
            client.send(message)
            assert client.recv(timeout=20) == message
        assert client.ping().wait(10)
        client.close(1000)
    assert client.close_code == 1000


def test_websocket_by_headers(gateway, app):
    host, port = gateway.address
    options = {"additional_headers": gateway.headers(app), "compression": None}
    with connect(f"ws://{host}:{port}/ws", **options) as client:
        client.send("by headers")
        assert client.recv(timeout=10) == "by headers"


def test_twenty_websockets_at_once(gateway, app):
    clients = [websocket(gateway, app) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(f"n{number}")
    for number, client in enumerate(clients):
        assert client.recv(timeout=10) == f"n{number}"
        client.close()


def test_a_websocket_ends_with_its_sandbox(gateway):
    sandbox = serve(gateway, create())
    client = websocket(gateway, sandbox)
    client.send("there?")
    assert client.recv(timeout=10) == "there?"
    threading.Timer(0.3, sandbox.kill).start()
    with pytest.raises(websockets.exceptions.ConnectionClosed):
        client.recv(timeout=10)


def test_a_websocket_to_nothing_is_refused(gateway, app):
    with pytest.raises(websockets.exceptions.InvalidStatus) as error:
        connect(f"ws://{app.get_host(9)}/ws", sock=gateway.dial())
    assert error.value.response.status_code == 502


def test_large_headers(gateway, app):
    headers = {**gateway.host(app), "X-Large": "x" * 16_000}
    assert gateway.get("/", headers).status_code == 200
    assert gateway.get("/", {**gateway.host(app), "X-Huge": "x" * 2_000_000}).status_code in (400, 431)


def test_requests_that_could_be_read_two_ways_are_refused(gateway, app):
    host = app.get_host(8080)
    bad = [
        f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        f"GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost : {host}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ]
    for request in bad:
        with gateway.dial() as client:
            client.sendall(request.encode() + f"GET /target?smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            client.settimeout(5)
            answer = b""
            try:
                while piece := client.recv(4096):
                    answer += piece
            except TimeoutError:
                pass
        assert answer.startswith(b"HTTP/1.1 400"), request
        if "Content-Length" in request or "Transfer-Encoding" in request:
            assert b"smuggled" not in answer, request
