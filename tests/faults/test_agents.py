"""The first process of a sandbox is killed from outside, as the kernel's OOM killer might."""

import os
import signal
import time
import uuid

import httpx
import pytest

from conftest import surviving
from harness import host


@pytest.fixture(scope="module")
def crashing():
    yield from surviving(1)


def test_a_killed_agent_ends_its_sandbox_alone(crashing):
    server, before = crashing.server, crashing.settle()
    victims = []
    for _ in range(3):
        sandbox, mark = server.create(), f"sleep {uuid.uuid4().int % 10**8 + 10**8}"
        sandbox.commands.run(f"exec {mark}", background=True, timeout=0)
        victims.append((sandbox, mark))
    for _, mark in victims:
        pid = host.process(mark)
        while host.status(pid)["NSpid"].split()[-1] != "1":
            pid = int(host.status(pid)["PPid"])
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while len(server.list()) > 1 or any(host.processes(mark) for _, mark in victims):
        assert time.monotonic() < deadline, "a dead sandbox is listed as running, or its processes live on"
        time.sleep(0.1)
    for sandbox, _ in victims:
        assert not sandbox.is_running()
        key = {"X-API-Key": server.client()["api_key"]}
        logs = httpx.get(f"{server.url}/v2/sandboxes/{sandbox.sandbox_id}/logs", headers=key).json()["logs"]
        assert any("its first process died" in entry["message"] for entry in logs), logs
    crashing.survivors[0].check()
    assert crashing.settle(wanted=before) == before
