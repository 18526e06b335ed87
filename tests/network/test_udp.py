"""Datagrams: only where a rule lets them go, and only answers come back."""

import json
import os
import time
import urllib.error

import pytest
from conftest import attempt, attempts, refused, run
from test_flows import program, until
from test_traffic import call, events
from world import MACHINE, OTHER, OTHER6, SITE, SITE6, WORLD


def let(server, sandbox, *rules, **more):
    assert call(server, sandbox, "requests", "PUT", {"udp": rules, **more}).status == 204


def refused_at_once(found):
    return found.get("error") == "ConnectionRefusedError" and found["seconds"] < 3


ASK = """
import json, socket, sys
address, port, said = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
stream = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
stream.settimeout(1); stream.sendto(said, (address, port))
found = []
try:
    while True:
        data, sender = stream.recvfrom(65536)
        found.append([data.decode(), sender[0], sender[1]])
except TimeoutError: pass
print(json.dumps(found))
"""


def test_by_address_range_and_name(server, sandboxes, world):
    sandbox = sandboxes()
    let(server, sandbox, "93.184.216.0/24:7", f"[{SITE6}]:123", "*.example.com:123")
    known = [("udp", SITE, 7), ("udp", OTHER, 7), ("udp", SITE6, 123)]
    assert [found.get("said") for found in attempts(sandbox, *known)] == ["hello"] * 3
    assert refused_at_once(attempt(sandbox, "udp", SITE, 123)), "its name was not asked for yet"
    found = attempts(sandbox, ("resolve", "api.example.com"), ("udp", SITE, 123), ("udp", OTHER, 123), ("udp", SITE, 443), ("udp", SITE6, 7))
    assert found[1].get("said") == "hello", found
    assert all(refused_at_once(one) for one in found[2:]), found
    [begun] = events(server, sandbox, protocol="udp", decision="allowed", address=SITE, port=123)
    assert (begun["rule"], begun["name"]) == ("udp *.example.com:123", "api.example.com")


@pytest.mark.parametrize("address", [SITE, SITE6])
def test_only_who_was_asked_answers_and_once_for_each(server, sandboxes, world, address):
    sandbox = sandboxes()
    let(server, sandbox, "0.0.0.0/0:7", "*:1007")
    mark = world.mark()
    assert program(sandbox, ASK, address, 7, "forge") == [["forge", address, 7]]
    assert len(world.seen(mark, what="packet", protocol="udp")) == 1
    large = "x" * 9000
    assert program(sandbox, ASK, address, 7, large) == [[large, address, 7]]


FOREIGN = """
import socket, sys
IP_FREEBIND, IPV6_FREEBIND = 15, 78
for source, target in (sys.argv[1:3], sys.argv[3:5]):
    six = ":" in source
    stream = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    stream.setsockopt(socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, IPV6_FREEBIND if six else IP_FREEBIND, 1)
    stream.bind((source, 7)); stream.sendto(b"ball", (target, 7)); stream.close()
"""


def test_two_hosts_do_not_play_with_each_other_through_us(server, sandboxes, world):
    """Root sends to one host as if from another; both send back what they get."""
    sandbox = sandboxes()
    let(server, sandbox, "0.0.0.0/0:7", f"[{SITE6}]:7", f"[{OTHER6}]:7")
    mark = world.mark()
    sandbox.files.write("/tmp/foreign.py", FOREIGN)
    assert run(sandbox, f"python3 /tmp/foreign.py {SITE} {OTHER} {SITE6} {OTHER6}", user="root") == (0, "")
    assert attempt(sandbox, "udp", SITE, 7).get("said") == "hello"
    assert len(world.seen(mark, what="datagram")) == 1


def test_what_no_rule_opens(server, sandboxes, world):
    """Special ranges, the machine, and the sandbox itself: not one packet, whatever the rule."""
    sandbox = sandboxes()
    let(server, sandbox, "*:7", "0.0.0.0/0:123", "10.0.0.0/8:123")
    mark = world.mark()
    targets = ["10.9.8.7", "169.254.169.254", "192.168.1.1", "fd00:ec2::254", "224.0.0.1", "203.0.113.9", MACHINE]
    for found in attempts(sandbox, *(("udp", address, 123, 0.2) for address in targets), ("udp", "127.0.0.1", 15001, 0.2)):
        assert found.get("said") is None, found
    time.sleep(0.2)
    assert world.seen(mark, what="packet", protocol="udp") == []
    denied = {event["address"]: event["rule"] for event in events(server, sandbox, protocol="udp", decision="denied")}
    assert denied["169.254.169.254"] == "special ranges" and denied[MACHINE] == "own machine"
    # Name service stays ours.
    assert attempt(sandbox, "ask", OTHER, "www.example.com")["found"] == [SITE]


def test_a_rule_by_name_needs_no_other_rule(server, sandboxes):
    sandbox = sandboxes(allow_internet_access=False)
    let(server, sandbox, "api.example.com:123")
    found = attempts(sandbox, ("resolve", "api.example.com"), ("udp", SITE, 123), ("ask", OTHER, "www.example.com"), ("echo", SITE))
    assert found[0].get("found") == [SITE] and found[1].get("said") == "hello", found
    assert found[2]["code"] == 3 and refused(found[3]), found


def test_a_rule_that_goes_ends_the_flow(server, sandboxes, world):
    text = """
import json, socket, sys, time
stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); stream.settimeout(1); stream.connect((sys.argv[1], 7))
found = []
stream.send(b"one"); found.append(stream.recv(100).decode())
open("/tmp/one", "w").close()
while not __import__("os").path.exists("/tmp/two"): time.sleep(0.02)
try: stream.send(b"two"); found.append(stream.recv(100).decode())
except OSError as error: found.append(type(error).__name__)
print(json.dumps(found))
"""
    sandbox = sandboxes()
    let(server, sandbox, f"{SITE}:7")
    sandbox.files.write("/tmp/flow.py", text)
    running = sandbox.commands.run(f"python3 /tmp/flow.py {SITE}", background=True, timeout=30)
    until(lambda: sandbox.files.exists("/tmp/one"))
    mark = world.mark()
    let(server, sandbox)
    sandbox.files.write("/tmp/two", "")
    assert json.loads(running.wait().stdout) == ["one", "ConnectionRefusedError"]
    assert world.seen(mark, what="packet", protocol="udp") == []
    until(lambda: events(server, sandbox, protocol="udp", decision="ended"))
    [ended] = events(server, sandbox, protocol="udp", decision="ended")
    assert (ended["sentBytes"], ended["receivedBytes"], ended["rule"]) == (3, 3, "udp")
    # The other rules leave it alone.
    let(server, sandbox, f"{SITE}:7")
    sandbox.update_network({})
    assert attempt(sandbox, "udp", SITE, 7).get("said") == "hello"


def test_flows_are_bounded_and_others_go_on(server, sandboxes):
    text = """
import json, socket, sys
sockets = []
for n in range(600):
    stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); stream.settimeout(0.5)
    stream.sendto(b"x", (sys.argv[1], 7)); sockets.append(stream)
answered = 0
for stream in sockets:
    try: stream.recv(10); answered += 1
    except OSError: stream.settimeout(0)
    stream.setblocking(False)
    if answered >= 256: break
print(json.dumps(answered))
"""
    greedy, other = sandboxes(), sandboxes()
    for sandbox in (greedy, other):
        let(server, sandbox, f"{SITE}:7")
    assert program(greedy, text, SITE) <= 256
    assert attempt(other, "udp", SITE, 7).get("said") == "hello"
    assert events(server, greedy, protocol="udp", decision="denied", rule="udp flows")
    greedy.kill()
    assert attempt(other, "udp", SITE, 7).get("said") == "hello"


HOARD = """
import itertools, os, socket, sys, time
streams = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(400)]
for turn in itertools.count():
    for stream in streams:
        stream.sendto(b"mine", (sys.argv[1], 1007))
    open("/tmp/hoarding", "w").close()
    time.sleep(0.5)
"""


def test_many_that_take_all_flows_lock_nobody_out(server, sandboxes):
    """The attack: 33 sandboxes open all the flows that they can, which is more than fit, and keep them busy."""
    hostile, other = [sandboxes() for _ in range(33)], sandboxes()
    let(server, other, f"{SITE}:7")
    for sandbox in hostile:
        let(server, sandbox, f"{SITE}:1007")
        sandbox.files.write("/tmp/hoard.py", HOARD)
        sandbox.commands.run(f"exec python3 /tmp/hoard.py {SITE}", background=True, timeout=0)
    crowded = {"protocol": "udp", "decision": "ended", "rule": "udp flows"}
    until(lambda: all(sandbox.files.exists("/tmp/hoarding") for sandbox in hostile), 30)
    until(lambda: any(events(server, sandbox, **crowded) for sandbox in hostile))
    for _ in range(3):
        found = attempts(other, *[("udp", SITE, 7)] * 20)
        assert [one.get("said") for one in found] == ["hello"] * 20, found
    assert not events(server, other, **crowded)
    [reason] = {event["reason"] for sandbox in hostile for event in events(server, sandbox, **crowded)}
    assert "give way" in reason
    descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    assert 8192 <= descriptors < 8192 + 34 * 40, descriptors
    for sandbox in hostile:
        sandbox.kill()
    until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) < 1000)


def test_bytes_are_counted(server, sandboxes):
    sandbox = sandboxes()
    let(server, sandbox, f"{SITE}:7", bytes={SITE: {"sent": 12}})
    found = attempts(sandbox, *[("udp", SITE, 7, 1)] * 3)
    assert [one.get("said") for one in found] == ["hello", "hello", None]
    assert sum(event["sentBytes"] for event in events(server, sandbox, protocol="udp", decision="ended")) <= 12


def test_a_flow_that_used_up_its_bytes_ends_though_nothing_comes_back(server, sandboxes):
    sandbox = sandboxes()
    let(server, sandbox, f"{SITE}:1007", bytes={SITE: {"sent": 10}})
    text = "import socket, sys, time\nstream = socket.socket(type=socket.SOCK_DGRAM)\nfor _ in range(3): stream.sendto(b'hello', (sys.argv[1], 1007)); time.sleep(0.1)\nprint(1)"
    program(sandbox, text, SITE)
    until(lambda: events(server, sandbox, protocol="udp", decision="ended", rule=f"bytes {SITE}"))


def test_a_proxy_leaves_no_way_around_it(server, sandboxes):
    sandbox = sandboxes(network={"egress_proxy": {"address": f"{WORLD}:1080", "username": "walker", "password": "seven-leagues"}})
    let(server, sandbox, "*:7")
    assert refused_at_once(attempt(sandbox, "udp", SITE, 7))


def test_bad_rules(server, sandboxes):
    sandbox = sandboxes()
    for bad in ["8.8.8.8:53", "8.8.8.8", "10.0.0.0/99:1", "a b:1", "x.y:0", "x.y:70000"]:
        with pytest.raises(urllib.error.HTTPError, match="400"):
            let(server, sandbox, bad)
