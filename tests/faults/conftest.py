"""Servers that die, on data directories of their own. Runs as root on the machine of the server."""

import os
import signal
import time
from pathlib import Path

import pytest

from harness import host, own

FAULT = "SOULBOX_FAULT_FILE"


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("the tests of faults look at the host's side of a sandbox and need root", returncode=2)
    if FAULT.encode() not in Path(os.environ["SOULBOX_BIN"]).read_bytes():
        pytest.exit("this binary has no fault points: build it with `--features soulbox-cli/fault-points`", returncode=2)


def surviving(survivors, pool=0):
    """For a fixture: such a server, which was killed once already under its sandboxes."""
    crashing = Crashing(pool).start()
    try:
        crashing.survivors = [Survivor(crashing.server) for _ in range(survivors)]
        crashing.restart()
        yield crashing
    finally:
        crashing.close()


class Crashing:
    """A server whose fault points can be armed, with sandboxes that must outlive it."""

    def __init__(self, pool=0):
        own.work().mkdir(parents=True, exist_ok=True)
        self.pool = pool
        self.server = own.make("--pool", str(pool))
        self.order = self.server.data_dir.with_suffix(".fault")
        self.server.variables[FAULT] = str(self.order)
        self.survivors = []

    def start(self):
        self.server.start()
        return self

    def arm(self, point, nth=1):
        staged = self.order.with_suffix(".staged")
        staged.write_text(f"{point}:{nth}")
        staged.replace(self.order)

    def disarm(self):
        self.order.unlink(missing_ok=True)

    def died(self, within=30):
        """Waits until the server is dead by the fault, and nothing else."""
        code = self.server.process.wait(within)
        assert code == -signal.SIGKILL, f"the server ended with {code}:\n{self.server.tail()}"

    def ready(self):
        """Starts the server where a test before this one left none."""
        self.disarm()
        if self.server.process.poll() is not None:
            self.server.start()

    def restart(self):
        self.disarm()
        self.server.stop(signal.SIGKILL)
        self.server.start()

    def settle(self, wanted=None, within=20):
        """What the server holds, once it holds no more than `wanted` or has not changed for a while."""
        last, since = self.footprint(), time.monotonic()
        deadline = since + within
        while time.monotonic() < deadline:
            if last == wanted:
                return last
            time.sleep(0.25)
            now = self.footprint()
            if now != last:
                last, since = now, time.monotonic()
            full = now["layers"] >= self.pool + len(self.survivors)
            if wanted is None and full and time.monotonic() - since > 1.5:
                return now
        return last

    def footprint(self):
        found = host.footprint(self.server)
        # User namespaces of free slots are kept for the next one, by each server for itself.
        found.pop("user namespaces")
        return found

    def close(self):
        self.disarm()
        own.remove(self.server)


class Survivor:
    """A sandbox that counts aloud, and whose neighbours' server dies."""

    def __init__(self, server):
        self.server = server
        self.sandbox = server.create(timeout=900, metadata={"role": "survivor"})
        self.sandbox.files.write("/home/user/kept", "kept")
        # One process, so that they can be counted at any time.
        program = "import time, itertools\nfor n in itertools.count(): print('tick', n); time.sleep(0.1)"
        command = f'exec python3 -u -c "{program}"'
        self.command = self.sandbox.commands.run(command, background=True, timeout=0)

    def check(self):
        """It is the same one, its command goes on, and its output can be listened to again."""
        sandbox = self.server.connect(self.sandbox.sandbox_id)
        assert sandbox.files.read("/home/user/kept") == "kept"
        assert self.command.pid in [process.pid for process in sandbox.commands.list()]
        stream = sandbox.commands.connect(self.command.pid, timeout=30)
        try:
            out = ""
            for stdout, _, _ in stream:
                out += stdout or ""
                if out.count("tick") >= 2:
                    break
            assert out.count("tick") >= 2, "a running command could not be listened to"
        finally:
            stream.disconnect()
        assert sandbox.commands.run("echo $((6 * 7))").stdout == "42\n"

