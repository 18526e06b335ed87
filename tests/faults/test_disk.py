"""The disk below the data directory runs full, and has room again."""

import os
import subprocess
import time
import uuid

import e2b
import httpx
import pytest

from conftest import Crashing, Survivor
from harness import host

DISK = 1600 << 20


@pytest.fixture
def disk(tmp_path):
    """A server whose data directory is a small file system of its own."""
    crashing = Crashing()
    server, image = crashing.server, tmp_path / "disk.img"
    server.data_dir.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(DISK)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, server.data_dir], check=True)
    try:
        (server.data_dir / "hog").touch()
        yield crashing.start()
    finally:
        (server.data_dir / "hog").write_bytes(b"")
        # The mount itself is not the server's to remove.
        for sandbox in server.list() if server.process.poll() is None else []:
            e2b.Sandbox.kill(sandbox.sandbox_id, **server.client())
        server.stop()
        subprocess.run(["umount", "-l", server.data_dir], check=True)
        crashing.close()


def fill(directory, leave):
    """Takes all of a disk but `leave` bytes."""
    hog = directory / "hog"
    with hog.open("r+b") as file:
        # Once more, since what is free grows while the file system sorts itself.
        for _ in range(3):
            stat = os.statvfs(directory)
            spare = stat.f_bavail * stat.f_frsize - leave
            if spare > 0:
                os.posix_fallocate(file.fileno(), hog.stat().st_size, spare)


def free(directory):
    (directory / "hog").write_bytes(b"")


def create(server):
    key = {"X-API-Key": server.client()["api_key"]}
    return httpx.post(f"{server.url}/sandboxes", json={"templateID": "host", "timeout": 900}, headers=key, timeout=30)


def refused(server):
    """The server says that it cannot now, why, and that it may be asked again."""
    answer = create(server)
    assert answer.status_code == 503, answer.text
    said = answer.json()
    assert said["soulbox"]["code"] in ("SB-CREATE", "SB-UNAVAILABLE") and said["soulbox"]["retryable"], said
    assert "free space" in said["message"] or "free some space" in said["message"], said


def test_a_disk_that_is_nearly_full_takes_no_new_sandboxes(disk):
    server = disk.server
    disk.survivors = [Survivor(server)]
    disk.restart()
    before = disk.settle()
    fill(server.data_dir, leave=64 << 20)
    for _ in range(3):
        refused(server)
    disk.survivors[0].check()
    assert disk.settle(wanted=before) == before, "a refused create leaves nothing"
    free(server.data_dir)
    again = create(server)
    assert again.status_code == 201, again.text
    disk.survivors[0].check()


def test_a_disk_that_ran_full_below_the_store_is_survived(disk):
    """What a sandbox writes finds no room below the store's image, and the kernel makes the store read-only."""
    server = disk.server
    first = server.create()
    assert first.kill()
    before = disk.settle()
    writer, bystander = server.create(), server.create()
    mark = f"sleep {uuid.uuid4().int % 10**8 + 10**8}"
    bystander.commands.run(f"exec {mark}", background=True, timeout=0)
    fill(server.data_dir, leave=1 << 20)
    with pytest.raises(e2b.SandboxException):
        for _ in range(20):
            writer.commands.run("head -c 20000000 /dev/urandom > big$RANDOM && sync", timeout=60)
            writer.commands.run("touch small$RANDOM && sync", timeout=60)
    assert host.processes(mark), "what needs no disk goes on"
    refused(server)
    server.stop(9)
    free(server.data_dir)
    server.start()
    assert {s.sandbox_id for s in server.list()} == {writer.sandbox_id, bystander.sandbox_id}
    assert host.processes(mark)
    for sandbox in (writer, bystander):
        assert sandbox.kill()
    deadline = time.monotonic() + 30
    while (answer := create(server)).status_code == 503:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    assert answer.status_code == 201, answer.text
    sandbox = server.connect(answer.json()["sandboxID"])
    assert sandbox.commands.run("echo x > written && sync && cat written").stdout == "x\n"
    assert sandbox.kill()
    # The undertaker comes back to what it could not remove from a store that was read-only.
    deadline = time.monotonic() + 30
    while (now := disk.footprint())["layers"] != before["layers"]:
        assert time.monotonic() < deadline, now
        time.sleep(0.2)
    # What the kernel took back with its last transaction, such as the end of a template's build, the next start tidies.
    disk.restart()
    assert disk.settle(wanted=before) == before
