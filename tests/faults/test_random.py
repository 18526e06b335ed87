"""The server is killed at moments that nobody chose, under work of every kind."""

import faulthandler
import os
import random
import subprocess
import sys
import threading
import time

import pytest

from conftest import surviving
from harness import own

ROUNDS = int(os.environ.get("SOULBOX_TEST_KILLS", "8"))
WORKERS = 6


@pytest.fixture(params=[0, 4], ids=["no pool", "pool"])
def crashing(request):
    yield from surviving(2, request.param)


class Work:
    """Clients that make, use and end sandboxes until there is no server."""

    def __init__(self, server, seed):
        self.server, self.stop = server, threading.Event()
        # Whose create was answered, and whose kill was.
        self.made, self.asked = set(), set()
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed + n),)) for n in range(WORKERS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
            if thread.is_alive():
                # Where each of them is, and who holds the other end of what it waits for.
                faulthandler.dump_traceback(sys.stderr)
                subprocess.run(["ss", "-tanp", f"( sport = {self.server.port} or dport = {self.server.port} )"], stdout=sys.stderr)
            assert not thread.is_alive(), "a client hangs on a server that is dead"

    def run(self, chance):
        client = self.server.client()
        while not self.stop.is_set():
            try:
                sandbox = own.e2b.Sandbox.create(template=own.TEMPLATE, timeout=chance.choice([1, 900]), **client)
                self.made.add(sandbox.sandbox_id)
                sandbox.commands.run("exec sleep 300", background=True, timeout=0)
                sandbox.files.write("/tmp/file", "x" * chance.randrange(100_000))
                if chance.random() < 0.7:
                    self.asked.add(sandbox.sandbox_id)
                    sandbox.kill()
            except Exception:
                # Cut off, or its timeout was over: what counts is what is there afterwards.
                self.stop.wait(0.02)


def test_killed_at_random_times(crashing):
    before = crashing.settle()
    seed = int(os.environ.get("SOULBOX_TEST_SEED", time.time_ns() % 10**6))
    chance = random.Random(seed)
    for round in range(ROUNDS):
        with Work(crashing.server, seed + round * 100) as work:
            time.sleep(chance.uniform(0.05, 1.2))
            crashing.server.stop(9)
        crashing.server.start()
        survivors = {s.sandbox.sandbox_id for s in crashing.survivors}
        listed = {s.sandbox_id for s in crashing.server.list()}
        assert survivors <= listed, f"seed {seed}, round {round}: a sandbox is lost"
        for sandbox_id in listed - survivors:
            try:
                sandbox = crashing.server.connect(sandbox_id)
                assert sandbox.commands.run("echo whole").stdout == "whole\n", f"seed {seed}, round {round}"
                sandbox.kill()
            except own.e2b.SandboxException as error:
                # Its timeout may be over by now; whatever is still there is whole.
                assert gone(crashing.server, sandbox_id), f"seed {seed}, round {round}: {error}"
        for survivor in crashing.survivors:
            survivor.check()
        assert crashing.settle(wanted=before) == before, f"seed {seed}, round {round}"


def gone(server, sandbox_id, within=20):
    deadline = time.monotonic() + within
    while sandbox_id in [sandbox.sandbox_id for sandbox in server.list()]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
