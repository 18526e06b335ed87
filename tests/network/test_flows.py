"""Bytes: all of them, in order, both ways at once, and no more of anybody's memory than a flow may take."""

import hashlib
import json
import time

import pytest

from conftest import attempt, run
from harness import host
from world import OTHER, SITE, SITE6

MIB = 1 << 20


def program(sandbox, text, *arguments, timeout=120):
    sandbox.files.write("/tmp/program.py", text)
    code, said = run(sandbox, "python3 /tmp/program.py " + " ".join(map(str, arguments)), timeout=timeout)
    assert code == 0, said
    return json.loads(said.splitlines()[-1])


BOTH_WAYS = """
import hashlib, json, os, socket, sys, threading
stream = socket.create_connection((sys.argv[1], 7)); stream.settimeout(60)
data, back = os.urandom(10 << 20), hashlib.sha256()
def send():
    stream.sendall(data); stream.shutdown(socket.SHUT_WR)
thread = threading.Thread(target=send); thread.start()
length = 0
while part := stream.recv(1 << 16):
    back.update(part); length += len(part)
thread.join()
print(json.dumps([length, back.hexdigest() == hashlib.sha256(data).hexdigest()]))
"""


@pytest.mark.parametrize("address", [SITE, SITE6])
def test_ten_mebibytes_both_ways_arrive_whole(opened, address):
    assert program(opened, BOTH_WAYS, address) == [10 * MIB, True]


def test_the_same_through_a_flow_that_is_allowed_by_name(sandboxes):
    sandbox = sandboxes(network={"allow_out": ["www.example.com"], "deny_out": ["0.0.0.0/0"]})
    attempt(sandbox, "ask", "8.8.8.8", "www.example.com")
    assert program(sandbox, BOTH_WAYS, SITE) == [10 * MIB, True]


def test_an_end_of_one_direction_leaves_the_other(opened):
    """The server says what it read only when it has seen the end of it."""
    text = """
import json, os, socket, sys
stream = socket.create_connection((sys.argv[1], 5000)); stream.settimeout(30)
stream.sendall(b"x" * (3 << 20)); stream.shutdown(socket.SHUT_WR)
print(json.dumps(stream.makefile().read().split()))
"""
    assert program(opened, text, SITE) == [str(3 * MIB), hashlib.sha256(b"x" * 3 * MIB).hexdigest()]
    other_way = """
import json, socket, sys, time
stream = socket.create_connection((sys.argv[1], 5001)); stream.settimeout(30)
stream.sendall(b"5000000\\n")
length = 0
while part := stream.recv(1 << 16): length += len(part)
stream.sendall(b"still open"); time.sleep(0.2); stream.sendall(b"and still")
print(json.dumps(length))
"""
    assert program(opened, other_way, SITE) == 5_000_000


def test_a_reset_reaches_the_other_side(opened, world):
    text = """
import json, socket, struct, sys
stream = socket.create_connection((sys.argv[1], 7)); stream.sendall(b"x"); stream.recv(1)
stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); stream.close()
print(json.dumps("reset"))
"""
    mark = world.mark()
    program(opened, text, OTHER)
    until(lambda: world.seen(mark, what="closed", to=OTHER))


def test_two_hundred_flows_at_once(opened):
    text = """
import asyncio, hashlib, json, os, sys
async def one(n):
    reader, writer = await asyncio.open_connection(sys.argv[1 + n % 2], 7)
    data = os.urandom(50_000)
    writer.write(data); writer.write_eof()
    back = await reader.read(-1)
    writer.close()
    return back == data
async def main():
    print(json.dumps(sum(await asyncio.gather(*(one(n) for n in range(200))))))
asyncio.run(main())
"""
    assert program(opened, text, SITE, SITE6) == 200


def test_a_server_that_never_reads_costs_no_memory(sandboxes, server, world):
    text = """
import json, socket, sys, time
streams, sent = [socket.create_connection((sys.argv[1], 9)) for _ in range(30)], 0
for stream in streams: stream.setblocking(False)
for _ in range(20):
    for stream in streams:
        try:
            while True: sent += stream.send(bytes(1 << 16))
        except BlockingIOError: pass
    time.sleep(0.1)
print(json.dumps(sent))
"""
    sandbox = sandboxes()
    before = resident(server)
    sent = program(sandbox, text, SITE)
    grown = resident(server) - before
    assert sent < 30 * 16 * MIB, "the sandbox waits"
    assert grown < 8 * MIB, f"{grown / MIB:.1f} MiB for 30 flows that nobody reads"
    assert attempt(sandbox, "echo", SITE)["said"] == "hello", "others go on"


def test_more_flows_than_one_sandbox_may_have_wait_and_others_go_on(sandboxes):
    text = """
import json, resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held, failed = [], 0
for n in range(1600):
    stream = socket.socket(); stream.setblocking(False)
    try: stream.connect((sys.argv[1], 7))
    except BlockingIOError: pass
    except OSError: failed += 1
    held.append(stream)
time.sleep(3)
print(json.dumps(len(held)), flush=True)
"""
    hoarder, other = sandboxes(), sandboxes()
    hoarder.files.write("/tmp/hoard.py", text.replace("print(", "open('/tmp/held', 'w').close(); time.sleep(4); print("))
    running = hoarder.commands.run(f"python3 /tmp/hoard.py {SITE}", background=True, timeout=60)
    until(lambda: hoarder.files.exists("/tmp/held"), within=30)
    slowest = max(attempt(other, "echo", SITE)["seconds"] for _ in range(5))
    assert slowest < 3
    running.wait()
    until(lambda: attempt(hoarder, "echo", SITE).get("said") == "hello", within=20)


def test_flows_end_with_their_sandbox_and_nothing_leaks(server, world):
    first = server.create()
    first.kill()
    before, connections = held_at_rest(server)
    mark = world.mark()
    hold = f"import socket, time; s = [socket.create_connection(('{OTHER}', p)) for p in (7, 9, 25) * 20]; open('/tmp/open', 'w').close(); time.sleep(600)"
    for n in range(1, 7):
        sandbox = server.create()
        sandbox.commands.run(f'python3 -c "{hold}"', background=True, timeout=0)
        until(lambda: sandbox.files.exists("/tmp/open"))
        # Those inside are open before the machine has dialled.
        until(lambda: len(world.seen(mark, what="tcp", to=OTHER)) == 60 * n, within=20)
        sandbox.kill()
    # Port 9 never reads, and so never learns of the end.
    until(lambda: len([event for event in world.seen(mark, what="closed", to=OTHER) if event["port"] != 9]) == 240)
    until(lambda: held(server)[0] == before, why=lambda: (before, held(server)[0]))
    # Clients of the API keep some connections, and lose some: one leaked by each sandbox would be six.
    until(lambda: held(server)[1] < connections + 6, why=lambda: (connections, held(server)[1]))


def held(server):
    """What the descriptors of the server are, by kind, and how many of them are sockets."""
    kinds = sorted(kind.split(":")[0] for kind in host.descriptors(server.process.pid))
    return {kind: kinds.count(kind) for kind in set(kinds) - {"socket"}}, kinds.count("socket")


def held_at_rest(server, within=20):
    """The same, when it has not changed for a second."""
    deadline, found = time.monotonic() + within, held(server)
    while True:
        time.sleep(1)
        before, found = found, held(server)
        if found == before:
            return found
        assert time.monotonic() < deadline, (before, found)


def resident(server):
    return int(host.status(server.process.pid)["VmRSS"].split()[0]) * 1024


def until(so, within=10, why=lambda: ""):
    deadline = time.monotonic() + within
    while not so():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)
