"""Nothing is left of a sandbox: no process, mount, cgroup, loop device, namespace or file."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import host, own


@pytest.fixture(scope="module")
def server():
    with own.lent() as server:
        # Pools and caches grow to the largest number of sandboxes that lived, waited or ended at a time: no leftovers.
        # More than any test here has, however slowly the ends of its sandboxes go.
        crowd = [server.create() for _ in range(32)]
        for sandbox in crowd:
            sandbox.kill()
        yield server


def settled(server, wanted=None, within=30):
    """The footprint, once it has not changed for two seconds (or matches `wanted`)."""
    last, since = host.footprint(server), time.monotonic()
    deadline = since + within
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = host.footprint(server)
        if now != last:
            last, since = now, time.monotonic()
        if now == wanted or (wanted is None and time.monotonic() - since > 2):
            return now
    return last


def messy_life(server):
    """A sandbox that uses everything and is killed in the middle of it."""
    sandbox = server.create(timeout=120)
    sandbox.commands.run("sleep 300", background=True, timeout=0)
    sandbox.commands.run("nohup sh -c 'sleep 400 & sleep 500' >/dev/null 2>&1 &")
    sandbox.commands.run("exec python3 -m http.server 8000", background=True, timeout=0)
    sandbox.files.write("/home/user/data", b"x" * 1_000_000)
    sandbox.commands.run("head -c 10000000 /dev/zero > /dev/shm/x; mkdir -p d/e/f; mkfifo d/pipe", user="root")
    sandbox.files.watch_dir("/home/user")
    sandbox.pty.create(own.e2b.PtySize(24, 80))
    assert sandbox.kill()
    return sandbox.sandbox_id


def test_after_thirty_sandboxes_the_host_is_as_before(server):
    before = settled(server)
    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(lambda _: messy_life(server), range(30)))
    after = settled(server, wanted=before)
    assert after == before
    assert not [i for i in ids if host.processes(i)]


def test_after_timeouts_the_host_is_as_before(server):
    before = settled(server)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: server.create(timeout=2), range(8)))
    deadline = time.monotonic() + 40
    while server.list():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert settled(server, wanted=before) == before


def test_a_sandbox_whose_first_process_dies_is_swept(server):
    """The agent is killed from outside, as the kernel's OOM killer might."""
    before = settled(server)
    sandbox = server.create()
    sandbox.commands.run("exec sleep 7654321", background=True, timeout=0)
    child = host.process("sleep 7654321")
    init = first_process(child)
    os.kill(init, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while server.list():
        assert time.monotonic() < deadline, "a dead sandbox is listed as running"
        time.sleep(0.2)
    assert not sandbox.is_running()
    assert settled(server, wanted=before) == before


def first_process(pid):
    """The host's number of PID 1 of the namespace that `pid` lives in."""
    while True:
        inside = host.status(pid)["NSpid"].split()[-1]
        if inside == "1":
            return pid
        pid = int(host.status(pid)["PPid"])


def test_refused_creates_leave_nothing(server):
    before = settled(server)
    for _ in range(5):
        with pytest.raises(own.e2b.SandboxException):
            own.e2b.Sandbox.create(template="nowhere", **server.client())
    assert settled(server, wanted=before) == before
