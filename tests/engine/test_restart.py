"""Sandboxes outlive the server; the next server takes them over."""

import math
import os
import signal
import socket
import subprocess
import time

import e2b
import httpx
import pytest

from harness import host, own
from harness.server import own_environment
from test_leftovers import first_process


@pytest.fixture
def server():
    with own.lent() as server:
        yield server


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["clean", "killed"])
def test_sandboxes_outlive_the_server(server, how):
    sandbox = server.create(timeout=600, metadata={"keep": "me"}, envs={"COLOUR": "red"})
    dead = server.create()
    dead.kill()
    sandbox.files.write("/home/user/www/index.html", "still served")
    sandbox.commands.run("cd www && exec python3 -m http.server 8000", background=True, timeout=0)
    clock = sandbox.commands.run("while sleep 0.1; do date +%s.%N >> /tmp/ticks; done", background=True, timeout=0)
    info = sandbox.get_info()

    code = server.stop(how)
    assert code == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    stopped = time.time()
    time.sleep(1)
    starting = time.time()
    server.start()

    [listed] = server.list()
    assert listed.sandbox_id == sandbox.sandbox_id
    assert listed.metadata == {"keep": "me"}
    assert (listed.started_at, listed.end_at) == (info.started_at, info.end_at)
    again = server.connect(sandbox.sandbox_id)

    def ticked_between(begin, end):
        return any(begin < float(tick) < end for tick in again.files.read("/tmp/ticks").splitlines())

    assert ticked_between(stopped, starting), "the command went on while there was no server"
    found, deadline = time.time(), time.monotonic() + 10
    while not ticked_between(found, math.inf):
        assert time.monotonic() < deadline, "and goes on"
    assert clock.pid in [p.pid for p in again.commands.list()]
    assert again.commands.run("echo $COLOUR").stdout == "red\n"
    assert sandbox.commands.run("echo old handle").stdout == "old handle\n", "the token is still the same"
    served = httpx.get(server.url, headers={"Host": again.get_host(8000)}, timeout=10)
    assert served.text == "still served"
    assert again.kill()
    assert server.list() == []


def test_a_sandbox_that_expires_while_no_server_runs_is_ended_by_the_next(server):
    survivor = server.create(timeout=600)
    sandbox = server.create(timeout=600)
    sandbox.commands.run("exec sleep 5551234", background=True, timeout=0)
    sandbox.set_timeout(3)
    server.stop(signal.SIGKILL)
    time.sleep(4)
    server.start()
    deadline = time.monotonic() + 30
    while [s.sandbox_id for s in server.list()] != [survivor.sandbox_id] or host.processes("sleep 5551234"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_timers_go_on_after_a_restart(server):
    sandbox = server.create(timeout=15)
    server.stop()
    server.start()
    assert sandbox.is_running()
    deadline = time.monotonic() + 25
    while sandbox.is_running():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_sandbox_that_died_without_a_server_is_not_listed(server):
    sandbox = server.create()
    sandbox.commands.run("exec sleep 5554321", background=True, timeout=0)
    child = host.process("sleep 5554321")
    server.stop(signal.SIGKILL)
    os.kill(first_process(child), signal.SIGKILL)
    time.sleep(0.5)
    server.start()
    assert server.list() == []
    with pytest.raises(e2b.NotFoundException):
        server.connect(sandbox.sandbox_id)


def test_clean_shutdown_can_take_the_sandboxes_along():
    with own.lent("--kill-sandboxes") as server:
        sandbox = server.create()
        sandbox.commands.run("exec sleep 5557777", background=True, timeout=0)
        assert server.stop() == 0
        deadline = time.monotonic() + 20
        while host.processes("sleep 5557777"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        server.start()
        assert server.list() == []


def test_a_store_that_another_mount_namespace_keeps_is_not_attached_twice(server):
    """Whatever starts while the store is mounted may copy the mount, and unmounting it here leaves the copy."""
    assert server.create().kill()
    image = server.data_dir / "store.img"
    if not image.exists():
        pytest.skip("the store is not in an image here")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 600"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        server.stop()
        assert host.loop_devices(server.data_dir) == [str(image)], "somebody has it still"
        server.start()
        assert server.create().commands.run("echo written > f; cat f").stdout == "written\n"
        assert host.loop_devices(server.data_dir) == [str(image)]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_second_server_on_the_same_directory_says_who_uses_it(server):
    second = subprocess.run(
        [server.binary, "serve", "--no-base", "--data-dir", str(server.data_dir), "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=30,
        env=own_environment(),
    )
    assert second.returncode not in (0, None)
    assert str(server.process.pid) in second.stderr
    assert "use" in second.stderr
    assert server.list() == [], "the first one is not disturbed"


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = own.make()
        done = subprocess.run(
            [server.binary, "serve", "--no-base", "--data-dir", str(server.data_dir), "--listen", address],
            capture_output=True,
            text=True,
            timeout=30,
            env=own_environment(),
        )
        own.unmount(server.data_dir)
    assert done.returncode not in (0, None)
    assert address in done.stderr


def test_not_root_is_said_in_one_sentence(tmp_path):
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", os.environ["SOULBOX_BIN"], "serve", "--data-dir", "/tmp/soulbox-nobody"],
        capture_output=True,
        text=True,
        timeout=30,
        env=own_environment(),
    )
    assert done.returncode not in (0, None)
    assert "root" in done.stderr or "permission" in done.stderr.lower()
    assert "panicked" not in done.stderr


def test_many_sandboxes_survive_a_kill(server):
    sandboxes = [server.create() for _ in range(12)]
    for number, sandbox in enumerate(sandboxes):
        sandbox.files.write("/home/user/n", str(number))
    server.stop(signal.SIGKILL)
    server.start()
    assert {s.sandbox_id for s in server.list()} == {s.sandbox_id for s in sandboxes}
    assert [s.files.read("/home/user/n") for s in sandboxes] == [str(n) for n in range(12)]


def test_a_create_in_flight_when_the_server_dies_leaves_no_half_sandbox(server):
    from concurrent.futures import ThreadPoolExecutor

    def attempt(_):
        try:
            return server.create().sandbox_id
        except Exception:
            return None

    client = server.client()
    server.client = lambda: client
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(attempt, n) for n in range(40)]
        time.sleep(0.15)
        server.stop(signal.SIGKILL)
        answered = {f.result() for f in running} - {None}
    server.start()
    listed = {s.sandbox_id for s in server.list()}
    assert answered <= listed, "who got an answer has a sandbox"
    for sandbox_id in listed:
        assert server.connect(sandbox_id).commands.run("echo ok").stdout == "ok\n"
