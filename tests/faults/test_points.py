"""The server is killed between any two steps of a sandbox's life, and the next one makes whole what is there."""

import os
import re
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from conftest import Crashing, surviving
from harness import host

SOURCES = Path(__file__).resolve().parents[2] / "crates"


def call(server, method, path, **options):
    """A request that may be cut off by the server's death."""
    variables = server.client()
    return httpx.request(method, server.url + path, headers={"X-API-Key": variables["api_key"], **options.pop("headers", {})}, timeout=30, **options)


def post(server, headers=None):
    return call(server, "POST", "/sandboxes", json={"templateID": "host", "timeout": 900}, headers=headers or {})


class Create:
    """Asks for a sandbox; who gets an answer has one."""

    headers = {}

    def prepare(self, crashing):
        pass

    def trigger(self, crashing):
        return post(crashing.server, self.headers).json()["sandboxID"]

    def check(self, crashing, answered):
        others = {s.sandbox.sandbox_id for s in crashing.survivors}
        extra = [s for s in crashing.server.list() if s.sandbox_id not in others]
        if answered:
            assert answered in [s.sandbox_id for s in extra], "who got an answer has a sandbox"
        assert len(extra) <= 1
        for listed in extra:
            sandbox = crashing.server.connect(listed.sandbox_id)
            assert sandbox.commands.run("echo whole").stdout == "whole\n"
            assert sandbox.kill()


class Repeated(Create):
    """The same with a key: a repeat gets the sandbox that was made, or makes it."""

    def prepare(self, crashing):
        self.headers = {"Idempotency-Key": uuid.uuid4().hex}

    def check(self, crashing, answered):
        again = [post(crashing.server, self.headers) for _ in range(2)]
        assert [a.status_code for a in again] == [201, 201], [a.text for a in again]
        assert again[0].json()["sandboxID"] == again[1].json()["sandboxID"]
        super().check(crashing, answered or again[0].json()["sandboxID"])


class Kill:
    """Ends a sandbox; once it was asked for, it ends."""

    def prepare(self, crashing):
        self.victim = crashing.server.create(timeout=900)
        self.mark = f"sleep {uuid.uuid4().int % 10**8 + 10**8}"
        self.victim.commands.run(f"exec {self.mark}", background=True, timeout=0)

    def trigger(self, crashing):
        call(crashing.server, "DELETE", f"/sandboxes/{self.victim.sandbox_id}")
        return True

    certain = True

    def check(self, crashing, answered):
        if self.certain or answered:
            deadline = time.monotonic() + 30
            while self.victim.sandbox_id in [s.sandbox_id for s in crashing.server.list()] or host.processes(self.mark):
                assert time.monotonic() < deadline, "an ended sandbox is there again"
                time.sleep(0.1)
        else:
            # Nothing was written and nobody was told: it may go on, and then it is whole.
            if self.victim.sandbox_id in [s.sandbox_id for s in crashing.server.list()]:
                assert self.victim.commands.run("echo whole").stdout == "whole\n"
                assert self.victim.kill()


class EarlyKill(Kill):
    """The server dies before it can note anything."""

    certain = False


class Expire(Kill):
    """The timeout of a sandbox is over."""

    def prepare(self, crashing):
        super().prepare(crashing)

    def trigger(self, crashing):
        call(crashing.server, "POST", f"/sandboxes/{self.victim.sandbox_id}/timeout", json={"timeout": 1})
        return None


class Move(Kill):
    """A timeout is moved; it fires, at the old time or the new one."""

    def prepare(self, crashing):
        super().prepare(crashing)
        call(crashing.server, "POST", f"/sandboxes/{self.victim.sandbox_id}/timeout", json={"timeout": 8})

    def trigger(self, crashing):
        call(crashing.server, "POST", f"/sandboxes/{self.victim.sandbox_id}/timeout", json={"timeout": 3})
        return None


class Govern(Create):
    """The network policy of a sandbox changes."""

    def trigger(self, crashing):
        sandbox = crashing.survivors[0].sandbox.sandbox_id
        call(crashing.server, "PUT", f"/sandboxes/{sandbox}/network", json={"denyOut": ["0.0.0.0/0"]})
        return None


class Restart(Kill):
    """The server dies while it takes over what the one before left: a sandbox being made and one being ended."""

    def prepare(self, crashing):
        super().prepare(crashing)
        crashing.arm("end.destroyed")
        threading.Thread(target=swallow, args=(super().trigger, crashing), daemon=True).start()
        crashing.died()

    def trigger(self, crashing):
        crashing.server.start()


class Leave(Create):
    """The server is asked to end, and dies while it removes what it made ahead."""

    def trigger(self, crashing):
        crashing.server.process.send_signal(signal.SIGTERM)


def swallow(work, *arguments):
    """What the death of the server makes of a request is not what is asked here."""
    try:
        return work(*arguments)
    except (httpx.HTTPError, RuntimeError, KeyError, ValueError):
        return None


SCENARIOS = {
    "create.admitted": Create, "create.reserved": Create, "create.started": Create, "create.announced": Create,
    "reserve.kept": Create, "start.told": Create, "start.serving": Create, "start.watched": Create,
    "blank.group": Create, "blank.process": Create, "blank.sockets": Create, "blank.layer": Create, "layer.made": Create,
    "furnish.assembled": Create, "furnish.told": Create,
    "store.inserted": Repeated, "store.half-inserted": Repeated, "store.running": Repeated,
    "end.begun": EarlyKill, "end.destroyed": Kill, "end.forgotten": Kill,
    "destroy.killed": Kill, "destroy.ended": Kill, "store.ending": Kill, "store.removed": Kill,
    "bury.group": Kill, "bury.sockets": Kill, "bury.layer": Kill,
    "timeout.fired": Expire, "timeout.moved": Move, "store.end-moved": Move,
    "store.network": Govern,
    "restart.adopted": Restart, "restart.ended": Restart, "restart.finished": Restart, "restart.swept": Restart,
    "sweep.groups": Restart, "sweep.layers": Restart,
}

# With seats made ahead, the same steps are taken by a thread that nobody waits for.
POOLED = {
    "pool.taken": Create, "pool.blank": Create, "pool.added": Create,
    "blank.group": Create, "blank.process": Create, "blank.layer": Create, "furnish.told": Create, "create.reserved": Create,
    "bury.process": Leave,
}

FIRST_START = ["image.made", "image.renamed", "image.attached"]


class HalfForgotten(Repeated):
    """A sandbox died while it was being made and while there was no server; its row goes, and the key with it."""

    def prepare(self, crashing):
        super().prepare(crashing)
        known = agents(crashing)
        crashing.arm("create.started")
        threading.Thread(target=swallow, args=(super().trigger, crashing), daemon=True).start()
        crashing.died()
        for pid in agents(crashing) - known:
            os.kill(pid, signal.SIGKILL)

    def trigger(self, crashing):
        crashing.server.start()


SCENARIOS["store.half-forgotten"] = HalfForgotten


def agents(crashing):
    """First processes of the server's sandboxes, waiting ones included."""
    groups = host.instance_groups(crashing.server.data_dir)
    members = {int(p) for group in groups for d, _, _ in os.walk(group) for p in host.lines(f"{d}/cgroup.procs")}
    return {pid for pid in members if host.status(pid)["NSpid"].split()[-1] == "1"}


def test_every_point_has_a_scenario():
    named = {name for path in SOURCES.rglob("*.rs") for name in re.findall(r'\bpoint\("([a-z.-]+)"\)', path.read_text())}
    assert named == {*SCENARIOS, *POOLED, *FIRST_START}


@pytest.mark.parametrize("point", SCENARIOS)
def test_killed_at(crashing, point):
    crash(crashing, point, SCENARIOS[point]())


@pytest.mark.parametrize("point", POOLED)
def test_killed_beside_a_pool_at(pooled, point):
    crash(pooled, point, POOLED[point]())


@pytest.fixture(scope="module")
def crashing():
    """One data directory for all of these: what one fault leaves, the next one finds."""
    yield from surviving(2)


@pytest.fixture(scope="module")
def pooled():
    yield from surviving(2, pool=4)


def crash(crashing, point, scenario):
    crashing.ready()
    before = crashing.settle()
    scenario.prepare(crashing)
    crashing.arm(point)
    with ThreadPoolExecutor(1) as aside:
        answer = aside.submit(swallow, scenario.trigger, crashing)
        if isinstance(scenario, (Restart, HalfForgotten)):
            # The one that dies is the one that is started.
            answer.result()
        crashing.died()
        crashing.disarm()
        crashing.server.start()
        scenario.check(crashing, answer.result())
    for survivor in crashing.survivors:
        survivor.check()
    assert crashing.settle(wanted=before) == before


@pytest.mark.parametrize("point", FIRST_START)
def test_killed_at_its_first_start_at(point):
    crashing = Crashing()
    try:
        crashing.arm(point)
        swallow(crashing.server.start)
        crashing.died()
        crashing.disarm()
        assert host.loop_devices(crashing.server.data_dir) == []
        crashing.start()
        assert crashing.server.create().commands.run("echo whole").stdout == "whole\n"
        assert len(host.loop_devices(crashing.server.data_dir)) == 1
        assert sorted(p.name for p in crashing.server.data_dir.glob("store.img*")) == ["store.img"]
    finally:
        crashing.close()
