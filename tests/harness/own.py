"""A server of a test's own, with the `host` template: nothing to download, and nobody else on it."""

import os
import shutil
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import e2b
import httpx

from harness import host
from harness.server import Server

TEMPLATE = "host"


class OwnServer(Server):
    def create(self, **options):
        options.setdefault("timeout", 900)
        return e2b.Sandbox.create(template=TEMPLATE, **self.client(), **options)

    def connect(self, sandbox_id):
        return e2b.Sandbox.connect(sandbox_id, **self.client())

    def list(self):
        return e2b.Sandbox.list(**self.client()).next_items()

    def http(self, timeout=60):
        """Its API, for requests that no client makes."""
        key = self.environment()["E2B_API_KEY"]
        return httpx.Client(base_url=self.url, headers={"X-API-Key": key}, timeout=timeout)

    def client(self):
        """Plain HTTP over loopback, which a listener with TLS serves too."""
        variables = self.environment()
        return {
            "api_key": variables["E2B_API_KEY"],
            "api_url": self.url,
            "sandbox_url": self.url,
            "domain": variables["E2B_DOMAIN"],
        }


def work():
    return Path(os.environ["SOULBOX_TEST_WORK"])


def make(*arguments, **options):
    return OwnServer(os.environ["SOULBOX_BIN"], work() / f"own-{uuid.uuid4().hex[:8]}", arguments=["--no-base", *arguments], **options)


@contextmanager
def lent(*arguments):
    """A server that runs with these flags, until it is given back."""
    server = make(*arguments)
    try:
        yield server.start()
    finally:
        remove(server)


def remove(server):
    """Ends the server with its sandboxes, and deletes what it kept."""
    if server.process is None or server.process.poll() is not None:
        try:
            server.start("--kill-sandboxes")
        except RuntimeError:
            pass
    # A list is of a hundred at most.
    while server.process.poll() is None and (left := server.list()):
        for sandbox in left:
            e2b.Sandbox.kill(sandbox.sandbox_id, **server.client())
    server.stop()
    clear(server)
    unmount(server.data_dir)
    shutil.rmtree(server.data_dir, ignore_errors=True)
    server.log.unlink(missing_ok=True)


def clear(server, within=20):
    """Sees the server's cgroups off: it gives up on what takes seconds to die, and leaves that to its next start."""
    deadline = time.monotonic() + within
    while (server.data_dir / "instance").exists() and (groups := host.instance_groups(server.data_dir)):
        for group in groups:
            try:
                group.rmdir()
            except OSError:
                continue
        if time.monotonic() > deadline:
            inside = {pid for group in groups for d, _, _ in os.walk(group) for pid in host.lines(f"{d}/cgroup.procs")}
            raise AssertionError(f"left in {[str(group) for group in groups]}: processes {sorted(inside)}\n{server.tail()}")
        time.sleep(0.1)


def unmount(data_dir):
    """Takes away mounts below the data directory, deepest first, and the loop devices with them."""
    import subprocess

    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{data_dir}/")), key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
