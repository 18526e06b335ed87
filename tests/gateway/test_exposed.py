"""Sandboxes that expose some ports alone, and every way around that which a client could think of."""

import os
import socket
import ssl
import time

import e2b
import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from conftest import APP, PORT
from harness import own

OTHER = PORT + 1


def create(http, **soulbox):
    template = os.environ.get("SOULBOX_TEST_TEMPLATE", "base")
    answer = http.post("/v2/sandboxes", json={"templateID": template, "timeout": 600, "soulbox": soulbox})
    assert answer.status_code == 201, answer.text
    return answer.json()["sandboxID"]


@pytest.fixture(scope="module")
def http():
    return httpx.Client(base_url=os.environ["E2B_API_URL"], headers={"X-API-Key": os.environ["E2B_API_KEY"]}, timeout=60)


@pytest.fixture(scope="module")
def listed(http, gateway):
    """Something answers at both ports, one of which is exposed."""
    sandbox = e2b.Sandbox.connect(create(http, ports=[PORT]))
    sandbox.files.write("/home/user/app.py", APP)
    for port in (PORT, OTHER):
        sandbox.commands.run(f"exec python3 app.py {port} 0.0.0.0", background=True, timeout=0)
        listens = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
        sandbox.commands.run(f"until python3 -c \"{listens}\" 2>/dev/null; do sleep 0.1; done", timeout=20)
    yield sandbox
    sandbox.kill()


def test_what_is_not_listed_is_refused_and_says_what_is(gateway, listed):
    assert gateway.get("/", gateway.host(listed)).text == "hello"
    assert gateway.get("/", gateway.headers(listed)).text == "hello"
    for headers in (gateway.host(listed, OTHER), gateway.headers(listed, OTHER)):
        answer = gateway.get("/", headers)
        assert answer.status_code == 403 and answer.headers["content-type"].startswith("application/json")
        assert answer.json() == {
            "code": 403,
            "message": f"The sandbox is running but port {OTHER} is not exposed; exposed are {PORT}",
            "sandboxId": listed.sandbox_id,
            "port": OTHER,
            "exposedPorts": [PORT],
            "soulbox": {"code": "SB-PERMISSION", "retryable": False},
        }
    page = gateway.get("/", {**gateway.host(listed, OTHER), "Sec-Fetch-Mode": "navigate"})
    assert page.status_code == 403 and "This port is not exposed" in page.text


def test_the_client_does_all_that_it_does(listed):
    assert listed.is_running()
    assert listed.commands.run("echo in").stdout == "in\n"
    listed.files.write("/tmp/f", "x")
    assert listed.files.read("/tmp/f") == "x"


@pytest.mark.parametrize(
    "lines",
    [
        "Host: 0{other}-{id}.{domain}",
        "Host: {other}-{id}-{port}.{domain}",
        "Host: {other}-{id}.{domain}.:{port}",
        "Host: {port}-{other}-{id}.{domain}",
        "Host: x\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: 0{other}",
        "Host: x\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: +{other}",
        "Host: x\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: {port},{other}",
        "Host: x\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: {port}\r\nE2b-Sandbox-Port: {other}",
        "Host: x\r\nE2b-Sandbox-Id: {id}\r\nE2B_Sandbox_Port: {port}\r\nE2b-Sandbox-Port: {other}",
        "Host: {port}-{id}.{domain}\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: {other}",
        "Host: {port}-{id}.{domain}\r\nHost: {other}-{id}.{domain}",
        "Host: {other}-{id}.{domain}\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    ],
)
def test_no_spelling_leads_around_it(gateway, listed, lines):
    lines = lines.format(port=PORT, other=OTHER, id=listed.sandbox_id, domain=gateway.domain.split(":")[0])
    with gateway.dial() as stream:
        stream.sendall(f"GET / HTTP/1.1\r\n{lines}\r\n\r\n".encode())
        stream.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: stream.recv(65536), b"")).decode()
    assert answer.split()[1] in ("400", "403", "502") and "hello" not in answer, answer


def test_no_web_socket_and_no_tls_name_leads_around_it(gateway, listed):
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{listed.get_host(OTHER).split(':')[0]}:{gateway.address[1]}/ws", sock=gateway.dial())
    assert refused.value.response.status_code == 403
    # What TLS is told of a name counts for nothing: the request decides.
    with own.lent("--tls-local") as server:
        with server.http() as http:
            sandbox = server.connect(http.post("/v2/sandboxes", json={"templateID": "host", "timeout": 300, "soulbox": {"ports": [PORT]}}).json()["sandboxID"])
        sandbox.commands.run(f"exec python3 -m http.server {OTHER}", background=True, timeout=0)
        context = ssl._create_unverified_context()
        name = f"{PORT}-{sandbox.sandbox_id}.localhost"
        with context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)), server_hostname=name) as stream:
            stream.sendall(f"GET / HTTP/1.1\r\nHost: {OTHER}-{sandbox.sandbox_id}.localhost\r\nConnection: close\r\n\r\n".encode())
            assert b" 403 " in stream.recv(65536).split(b"\r\n")[0]


def test_a_restart_keeps_it(gateway):
    with own.lent() as server:
        with server.http() as http:
            body = {"templateID": "host", "timeout": 300, "soulbox": {"ports": [8000]}}
            sandbox = server.connect(http.post("/v2/sandboxes", json=body).json()["sandboxID"])
        for port in (8000, 8001):
            sandbox.commands.run(f"exec python3 -m http.server {port}", background=True, timeout=0)

        def ask(port):
            host = {"Host": f"{port}-{sandbox.sandbox_id}.localhost:{server.port}"}
            return httpx.get(server.url, headers=host, timeout=10).status_code

        deadline = time.monotonic() + 20
        while ask(8000) != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert ask(8001) == 403
        server.stop()
        server.start()
        assert (ask(8000), ask(8001)) == (200, 403)
        with server.http() as http:
            assert http.get(f"/sandboxes/{sandbox.sandbox_id}").json()["soulbox"] == {"ports": [8000]}


def test_a_client_that_says_nothing_of_ports_has_them_all(gateway, app):
    app.commands.run(f"exec python3 app.py {OTHER} 0.0.0.0", background=True, timeout=0)
    deadline = time.monotonic() + 20
    while gateway.get("/", gateway.host(app, OTHER)).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
