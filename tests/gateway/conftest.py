"""A sandbox with a small web server of every kind of behaviour, reached through the gateway."""

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import e2b
import httpx
import pytest

APP = Path(__file__).with_name("app.py").read_text()
PORT = 8080


class Gateway:
    """The listener, and what a client says to reach a port of a sandbox on it."""

    def __init__(self):
        self.url = os.environ["E2B_SANDBOX_URL"].rstrip("/")
        self.domain = os.environ["E2B_DOMAIN"]
        parts = urlsplit(self.url)
        self.address = (parts.hostname, parts.port)

    def host(self, sandbox, port=PORT):
        return {"Host": sandbox.get_host(port)}

    def headers(self, sandbox, port=PORT):
        return {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)}

    def get(self, path, headers, **options):
        return httpx.get(self.url + path, headers=headers, timeout=20, **options)

    def dial(self):
        return socket.create_connection(self.address, timeout=20)


@pytest.fixture(scope="session")
def gateway():
    return Gateway()


def create(**options):
    template = os.environ.get("SOULBOX_TEST_TEMPLATE")
    if template:
        options["template"] = template
    return e2b.Sandbox.create(timeout=900, **options)


def serve(gateway, sandbox, bind="0.0.0.0"):
    sandbox.files.write("/home/user/app.py", APP)
    sandbox.commands.run(f"exec python3 app.py {PORT} {bind}", background=True, timeout=0)
    deadline = time.monotonic() + 20
    while gateway.get("/", gateway.host(sandbox)).status_code != 200:
        assert time.monotonic() < deadline, "the app did not start"
        time.sleep(0.1)
    return sandbox


@pytest.fixture(scope="module")
def app(gateway):
    sandbox = serve(gateway, create())
    yield sandbox
    sandbox.kill()


@pytest.fixture
def sandbox():
    sandbox = create()
    yield sandbox
    sandbox.kill()
