"""Rules that change while a sandbox runs, and what a server's death and restart leave of them."""

import json
import signal
import statistics
import threading
import time

import e2b
import pytest

from conftest import attempt, attempts, furnished, refused, run, serve, site
from world import OTHER, SITE, SITE6

ALL = ["0.0.0.0/0"]
# Keeps a flow to each address open and says when it is cut, by the clock that the machine and its sandboxes share.
FLOWS = """
import json, select, socket, sys, time
streams = {}
for address in sys.argv[1:]:
    stream = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    stream.connect((address, 7)); stream.sendall(b"x"); stream.recv(1)
    streams[stream] = address
print("open", flush=True)
while streams:
    for stream in select.select(list(streams), [], [])[0]:
        try: end = "end" if not stream.recv(10) else "data"
        except OSError as error: end = type(error).__name__
        print(json.dumps([streams.pop(stream), end, time.clock_gettime_ns(time.CLOCK_MONOTONIC)]), flush=True)
"""


class Flows:
    def __init__(self, sandbox, *addresses):
        self.lines = []
        sandbox.files.write("/tmp/flows.py", FLOWS)
        self.command = sandbox.commands.run("python3 /tmp/flows.py " + " ".join(addresses), background=True, timeout=0)
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()
        until(lambda: self.lines)

    def follow(self):
        try:
            for stdout, _, _ in self.command:
                self.lines += (stdout or "").split("\n")[:-1]
        except e2b.SandboxException:
            pass  # It ends with its sandbox.

    def cut(self):
        """Address → (how it ended, when in ns)."""
        return {address: (how, at) for address, how, at in map(json.loads, self.lines[1:])}


def until(so, within=10):
    deadline = time.monotonic() + within
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_change_cuts_what_is_no_longer_allowed_and_leaves_the_rest(sandboxes):
    sandbox = sandboxes()
    flows = Flows(sandbox, SITE, OTHER, SITE6)
    sandbox.update_network({"deny_out": [OTHER]})
    until(lambda: flows.cut())
    time.sleep(0.3)
    [(address, (how, _))] = flows.cut().items()
    assert (address, how) == (OTHER, "ConnectionResetError")
    assert refused(attempt(sandbox, "echo", OTHER)) and attempt(sandbox, "echo", SITE)["said"] == "hello"
    sandbox.update_network({"deny_out": ALL, "allow_out": [SITE6]})
    until(lambda: len(flows.cut()) == 2)
    assert set(flows.cut()) == {OTHER, SITE}
    sandbox.update_network({})
    assert attempt(sandbox, "echo", OTHER)["said"] == "hello"
    assert len(flows.cut()) == 2


def test_flows_that_were_allowed_by_name_are_cut_by_name(sandboxes):
    sandbox = sandboxes(network={"allow_out": ["www.example.com", "other.org"], "deny_out": ALL})
    attempts(sandbox, ("ask", "8.8.8.8", "www.example.com"), ("ask", "8.8.8.8", "other.org"))
    flows = Flows(sandbox, SITE, OTHER)
    sandbox.update_network({"allow_out": ["other.org"], "deny_out": ALL})
    until(lambda: flows.cut())
    time.sleep(0.3)
    assert set(flows.cut()) == {SITE}
    assert refused(attempt(sandbox, "http", SITE, "www.example.com"))


def test_a_change_takes_effect_within_milliseconds(sandboxes):
    """Ten changes back and forth, each from the request to the cut of a flow that runs."""
    sandbox = sandboxes()
    taken, asked = [], []
    for _ in range(10):
        flows = Flows(sandbox, SITE)
        began = time.monotonic_ns()
        sandbox.update_network({"deny_out": ALL})
        asked.append((time.monotonic_ns() - began) / 1e6)
        until(lambda: flows.cut())
        taken.append((flows.cut()[SITE][1] - began) / 1e6)
        sandbox.update_network({})
    print(f"request to cut: {sorted(taken)} ms; the request itself: {sorted(asked)} ms")
    assert statistics.median(taken) < 50


def test_it_is_in_effect_when_the_request_returns(sandboxes):
    sandbox = sandboxes()
    for _ in range(5):
        sandbox.update_network({"deny_out": ALL})
        assert refused(attempt(sandbox, "http", SITE, "x"))
        sandbox.update_network({"allow_out": ["www.example.com"], "deny_out": ALL})
        assert site(attempt(sandbox, "http", OTHER, "www.example.com")) == SITE
        sandbox.update_network({})
        assert site(attempt(sandbox, "http", OTHER, "www.example.com")) == OTHER


def test_a_connection_that_was_begun_before_goes_by_the_rules_of_its_name(sandboxes, world):
    """It says where it goes only after the change."""
    sandbox = sandboxes(network={"allow_out": ["www.example.com"], "deny_out": ALL})
    program = f"""
import os, socket, time
stream = socket.create_connection(("{SITE}", 80)); stream.settimeout(20)
stream.sendall(b"GET / HTTP/1.1\\r\\nHost: www.")
open("/tmp/begun", "w").close()
while not os.path.exists("/tmp/changed"): time.sleep(0.01)
stream.sendall(b"example.com\\r\\n\\r\\n")
print(stream.recv(12).decode())
"""
    sandbox.files.write("/tmp/late.py", program)
    command = sandbox.commands.run("python3 /tmp/late.py", background=True, timeout=60)
    until(lambda: sandbox.files.exists("/tmp/begun"))
    sandbox.update_network({"deny_out": ALL})
    mark = world.mark()
    sandbox.files.write("/tmp/changed", "")
    assert command.wait().stdout == "HTTP/1.1 403\n"
    assert world.seen(mark) == []


def test_a_bad_change_changes_nothing(sandboxes):
    sandbox = sandboxes(network={"deny_out": [OTHER]})
    for bad in ({"allow_out": ["10.0.0.0/99"]}, {"deny_out": ["example.com"]}, {"allow_out": ["example.com"]}, {"deny_out": ["1.2.3"]}):
        with pytest.raises(e2b.SandboxException, match="400"):
            sandbox.update_network(bad)
    assert refused(attempt(sandbox, "echo", OTHER)) and attempt(sandbox, "echo", SITE)["said"] == "hello"


def test_denials_are_in_the_log(sandboxes, server):
    sandbox = sandboxes(network={"deny_out": [OTHER]})
    attempts(sandbox, ("echo", OTHER), ("ask", "8.8.8.8", "metadata.google.internal"))
    logged = server.run("sandbox", "logs", sandbox.sandbox_id).stdout
    assert f"{OTHER}:7" in logged and "denyOut" in logged and "metadata.google.internal" in logged


def test_rules_are_there_before_the_first_instruction(server, world):
    """Also in sandboxes that were made ahead: no attempt gets through before the rules are there."""
    early = f"import socket\nfor n in range(50):\n    s = socket.create_connection(('{OTHER}', 80), 5)\n    try: s.send(b'x'); s.recv(1)\n    except OSError: pass"
    mark = world.mark()
    for _ in range(12):
        sandbox = server.create(network={"deny_out": [OTHER]})
        try:
            code, said = run(sandbox, f'python3 -c "{early}"; curl -sS http://www.example.com')
            assert code == 0 and f'"to": "{SITE}"' in said, "the network is there as early"
        finally:
            sandbox.kill()
    assert world.seen(mark, what="packet", to=OTHER) == []


@pytest.fixture
def mortal(world):
    with serve() as server:
        yield server


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["clean", "killed"])
def test_after_a_restart_the_rules_are_as_before(mortal, how):
    strict = furnished(mortal.create(network={"allow_out": ["www.example.com"], "deny_out": ALL}))
    changed = furnished(mortal.create())
    changed.update_network({"deny_out": [OTHER]})
    nothing = furnished(mortal.create(allow_internet_access=False))
    mortal.stop(how)
    # Without a server there is no way out, and it is said at once.
    time.sleep(0.5)
    mortal.start()
    for sandbox in (strict, changed, nothing):
        sandbox.commands.run("true")
    assert site(attempt(strict, "http", SITE, "www.example.com")) == SITE
    assert refused(attempt(strict, "http", SITE, "other.org")) and refused(attempt(strict, "echo", OTHER))
    assert attempt(changed, "echo", SITE)["said"] == "hello" and refused(attempt(changed, "echo", OTHER))
    assert refused(attempt(nothing, "http", SITE, "www.example.com"))
    fresh = furnished(mortal.create())
    assert attempt(fresh, "echo", OTHER)["said"] == "hello", "and new ones, made ahead or not, have theirs"
    changed.update_network({})
    assert attempt(changed, "echo", OTHER)["said"] == "hello"


def test_without_a_server_nothing_leaves(mortal, world):
    sandbox = mortal.create()
    loop = f"import socket, time\nwhile True:\n    try: socket.create_connection(('{OTHER}', 80), 1)\n    except OSError as e: open('/tmp/said', 'w').write(type(e).__name__)\n    time.sleep(0.05)"
    sandbox.commands.run(f'python3 -c "{loop}"', background=True, timeout=0)
    until(lambda: world.seen(what="tcp", to=OTHER))
    mortal.stop(signal.SIGKILL)
    mark = world.mark()
    time.sleep(1)
    assert world.seen(mark, what="packet") == []
    mortal.start()
    assert sandbox.files.read("/tmp/said") == "ConnectionRefusedError"
    until(lambda: world.seen(mark, what="tcp", to=OTHER))
