"""However often sandboxes are made and ended, nothing grows. `SOULBOX_TEST_CYCLES` says how often."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from conftest import Crashing
from harness import host

CYCLES = int(os.environ.get("SOULBOX_TEST_CYCLES", "300"))
AT_ONCE = 4
WARM_UP = 60
# Of the server's memory, beyond what it had after the first cycles; what it tells of ended sandboxes is bounded.
GROWTH = 64 << 20


@pytest.fixture(params=[0, 4], ids=["no pool", "pool"])
def crashing(request):
    crashing = Crashing(pool=request.param).start()
    try:
        yield crashing
    finally:
        crashing.close()


def test_counts_are_as_before(crashing):
    server = crashing.server
    key = {"X-API-Key": server.client()["api_key"]}
    with httpx.Client(base_url=server.url, headers=key, timeout=60, limits=httpx.Limits(max_connections=AT_ONCE)) as api:
        cycles(api, WARM_UP)
        before, memory, all_fds = crashing.settle(), resident(server), fds(server)
        began = time.monotonic()
        cycles(api, CYCLES // 2)
        elapsed = time.monotonic() - began
        assert crashing.settle(wanted=before, within=60) == before
        assert fds(server) <= all_fds + AT_ONCE
        grown = resident(server) - memory
        print(f"{CYCLES // 2} cycles in {elapsed:.1f} s, the server grew by {grown >> 10} KiB")
        assert grown < GROWTH, f"the server grew by {grown >> 20} MiB"


def cycles(api, number):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for code in pool.map(lambda _: cycle(api), range(number)):
            assert code == 204


def cycle(api):
    made = api.post("/sandboxes", json={"templateID": "host", "timeout": 900})
    assert made.status_code == 201, made.text
    return api.delete(f"/sandboxes/{made.json()['sandboxID']}").status_code


def resident(server):
    return int(host.status(server.process.pid)["VmRSS"].split()[0]) * 1024


def fds(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))
