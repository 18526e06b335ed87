"""A server with a crowd of sandboxes that all have something to do. Needs root, like the server."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import own

SANDBOXES = int(os.environ.get("SOULBOX_TEST_LOAD_SANDBOXES", "300"))
# Some of them serve a port; a Python for each would be memory that says nothing.
SERVING = 20
PORT = 8000


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("sandboxes are made by root", returncode=2)


@pytest.fixture(scope="module")
def server():
    with own.lent("--max-sandboxes", str(SANDBOXES + 50)) as server:
        yield server


@pytest.fixture(scope="module")
def crowd(server):
    """Ids of the living sandboxes; the first ones serve a port."""
    client = server.client()
    server.client = lambda: client
    with ThreadPoolExecutor(4) as pool:
        sandboxes = list(pool.map(lambda _: server.create(timeout=86_400), range(SANDBOXES)))
        list(pool.map(serve, sandboxes[:SERVING]))
    return [sandbox.sandbox_id for sandbox in sandboxes]


def serve(sandbox):
    ready = f"until (exec 3<>/dev/tcp/127.0.0.1/{PORT}) 2>/dev/null; do sleep 0.1; done"
    sandbox.commands.run(f"mkdir -p www && echo served > www/index.html && cd www && exec python3 -m http.server {PORT}", background=True, timeout=0)
    sandbox.commands.run(ready, timeout=60)
