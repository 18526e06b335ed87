"""Name service: answered by the machine whatever server is asked, and only names that may be reached ever leave."""

import base64
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import attempt, attempts, events, refused, run
from names import SILENCE
from world import SITE, SITE6, WORLD

ALL = {"deny_out": ["0.0.0.0/0"]}
# Servers that a program may ask: none of them is.
SERVERS = ["8.8.8.8", "1.1.1.1", "10.0.0.53", "169.254.169.253", "2001:4860:4860::8888", "203.0.113.1"]


@pytest.mark.parametrize("over", ["udp", "tcp"])
def test_every_server_address_is_answered_by_the_machine(opened, world, over):
    mark = world.mark()
    for found in attempts(opened, *(("ask", server, "www.example.com", "A", over) for server in SERVERS)):
        assert (found.get("code"), found.get("found")) == (0, [SITE]), found
    for found in attempts(opened, *(("ask", server, "six.example.com", "AAAA", over) for server in SERVERS)):
        assert (found.get("code"), found.get("found")) == (0, [SITE6]), found
    assert {event["to"] for event in world.seen(mark, what="packet")} == {WORLD}, "our own name server alone was asked"


def test_what_is_not_there_is_said(opened):
    for over in ("udp", "tcp"):
        found = attempt(opened, "ask", "8.8.8.8", "nowhere.example.com", "A", over)
        assert (found["code"], found["found"]) == (3, [])
    assert attempt(opened, "ask", "8.8.8.8", "www.example.com", "AAAA")["code"] == 0
    assert attempt(opened, "resolve", "nowhere.example.com")["error"] == "gaierror"


def test_the_files_of_a_sandbox_lead_to_name_service(opened):
    assert attempt(opened, "resolve", "www.example.com")["found"] == [SITE]
    assert attempt(opened, "resolve", "localhost")["found"][0] in ("127.0.0.1", "::1")
    code, said = run(opened, "getent hosts $(cat /proc/sys/kernel/hostname) && grep -c nameserver /etc/resolv.conf")
    assert code == 0 and WORLD not in said


def test_answers_are_as_long_as_who_asks_can_take(opened, world):
    world.set_names(long_example_com={"TXT": ["x" * 2000]})
    ways = [("udp", 0), ("udp", 1232), ("udp", 4096), ("tcp", 0), ("tcp", 1232)]
    found = attempts(opened, *(("ask", "8.8.8.8", "loNg.eXample.com", "TXT", over, room) for over, room in ways))
    alone = 12 + len("long.example.com") + 2 + 4
    for said in found[:2]:
        assert (said["code"], said["cut"], said["found"], said["edns"]) == (0, True, [], False)
        assert said["repeated"] and said["length"] <= alone, "the question alone"
    for said, (_, room) in zip(found[2:], ways[2:], strict=True):
        assert not said["cut"] and said["found"][0].count("x") == 2000
        assert said["repeated"] and said["edns"] == bool(room)
    assert [event["over"] for event in world.seen(what="dns", name="long.example.com")][-2:] == ["udp", "tcp"]
    # As programs come again.
    code, said = run(opened, "getent ahosts www.example.com")
    assert code == 0 and SITE in said


def test_only_allowed_names_leave(sandboxes, world):
    sandbox = sandboxes(network={"allow_out": ["www.example.com", "*.api.example.com"], **ALL})
    mark = world.mark()
    assert attempt(sandbox, "ask", "8.8.8.8", "www.example.com")["found"] == [SITE]
    assert attempt(sandbox, "ask", "8.8.8.8", "deep.api.example.com", "A", "tcp")["found"] == [SITE]
    left = {event["name"] for event in world.seen(mark, what="dns")}
    assert left == {"www.example.com", "deep.api.example.com"}

    secret = base64.b32encode(os.urandom(30)).decode().lower()
    mark = world.mark()
    questions = [
        ("ask", server, name, kind, over)
        for server in ("8.8.8.8", WORLD)
        for name in (f"{secret}.evil.org", f"{secret}.example.com", f"www.example.com.{secret}.org", "api.example.com", f"x{secret}", "a" * 63 + "." + "b" * 63 + ".evil.org")
        for kind in ("A", "TXT", "NULL", "PTR", "HTTPS")
        for over in ("udp", "tcp")
    ]
    for found in attempts(sandbox, *questions):
        assert found["code"] in (3, 5) and found["found"] == [], found
    assert refused(attempt(sandbox, "resolve", f"{secret}.evil.org"))
    assert world.seen(mark) == [], "nothing at all left the machine"


def test_a_sandbox_with_addresses_alone_asks_for_nothing(sandboxes, world):
    sandbox = sandboxes(network={"allow_out": [SITE], **ALL})
    mark = world.mark()
    assert attempt(sandbox, "ask", "8.8.8.8", "www.example.com")["code"] == 3
    assert world.seen(mark) == []


def test_names_of_a_local_network_never_leave(opened, world):
    mark = world.mark()
    for name in ("metadata.google.internal", "db", "printer.local", "kubernetes.default.svc.cluster.local", "wpad", "x.lan", "router.home.arpa", "ip6.arpa.test"):
        found = attempt(opened, "ask", "8.8.8.8", name)
        assert (found["code"], found["found"]) == (3, []), name
    assert world.seen(mark) == []


def test_nor_do_they_as_the_host_of_a_request(sandboxes, world):
    """Where every name is allowed, the machine would look up what a request names."""
    sandbox = sandboxes(network={"allow_out": ["*"], **ALL})
    mark = world.mark()
    for name in ("metadata.google.internal", "db", "kubernetes.default.svc.cluster.local", "localhost"):
        over_http, over_tls = attempts(sandbox, ("http", SITE, name), ("tls", SITE, name))
        assert over_http["status"] == 403 and refused(over_tls), name
    assert world.seen(mark) == []


def test_kinds_that_serve_tunnels_do_not_leave(opened, world):
    mark = world.mark()
    assert attempt(opened, "ask", "8.8.8.8", "t.example.com", "NULL")["code"] == 5
    found = attempt(opened, "ask", "8.8.8.8", "www.example.com", "HTTPS")
    assert (found["code"], found["cut"], found["found"]) == (0, False, [])
    assert world.seen(mark) == []


def test_what_became_of_questions_is_told(sandboxes, server, world):
    world.set_names(silent_example_com=SILENCE)
    sandbox = sandboxes()
    asked = [("www.example.com", "A"), ("nowhere.example.com", "A"), ("www.example.com", "NULL"), ("www.example.com", "HTTPS"), ("localhost", "A"), ("silent.example.com", "A")]
    codes = [found["code"] for found in attempts(sandbox, *(("ask", "8.8.8.8", name, kind) for name, kind in asked))]
    assert codes == [0, 3, 5, 0, 0, 2]
    told = events(server, sandbox, protocol="dns")
    assert [(event["name"], event["decision"], event["rule"]) for event in told] == [
        ("www.example.com", "allowed", "default"),
        ("nowhere.example.com", "allowed", "default"),
        ("www.example.com", "denied", "record types"),
        ("www.example.com", "denied", "record types"),
        ("silent.example.com", "failed", "unreachable"),
    ]
    assert "no name server answered" in told[-1]["reason"]
    log = server.run("sandbox", "logs", sandbox.sandbox_id).stdout
    assert "records of type 10" in log and "records of type 65" not in log


def test_names_that_nobody_answers_hold_up_no_other(sandboxes, world):
    ask = """
import os, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("8.8.8.8", 53))
for _ in range(5):
    for _ in range(40):
        s.send(os.urandom(2) + b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6silent\\7example\\3com\\0\\0\\1\\0\\1")
    time.sleep(1)
"""
    world.set_names(silent_example_com=SILENCE)
    other, *hostile = [sandboxes() for _ in range(25)]
    for sandbox in hostile:
        sandbox.files.write("/tmp/ask.py", ask)
    mark = world.mark()
    with ThreadPoolExecutor(len(hostile)) as all_at_once:
        running = [all_at_once.submit(run, sandbox, "python3 /tmp/ask.py") for sandbox in hostile]
        while len(world.seen(mark, what="dns", name="silent.example.com")) < 256:
            assert not all(asked.done() for asked in running)
        slowest = max(attempt(other, "ask", "1.1.1.1", "www.example.com")["seconds"] for _ in range(10))
        assert all(asked.result()[0] == 0 for asked in running)
    assert slowest < 2


def test_questions_of_one_sandbox_are_bounded_and_others_are_still_answered(sandboxes, world):
    flood = """
import os, socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("8.8.8.8", 53))
end = time.monotonic() + 4
while time.monotonic() < end:
    label = os.urandom(8).hex().encode()
    s.send(os.urandom(2) + b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + bytes([len(label)]) + label + b"\\7example\\3com\\0\\0\\1\\0\\1")
"""
    noisy, other = sandboxes(), sandboxes()
    noisy.files.write("/tmp/flood.py", flood)
    mark = world.mark()
    thread = threading.Thread(target=run, args=(noisy, "python3 /tmp/flood.py & python3 /tmp/flood.py & wait"))
    thread.start()
    slowest = max(attempt(other, "ask", "1.1.1.1", "www.example.com")["seconds"] for _ in range(10))
    thread.join()
    assert slowest < 3
    asked = len([event for event in world.seen(mark, what="dns") if event["name"] != "www.example.com"])
    assert asked < 1200, "a hundred a second after a burst of four hundred"
    assert asked > 200, "the flood reached the name server at all"


def test_malformed_questions_are_no_harm(opened, world):
    program = """
import os, random, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("8.8.8.8", 53)); s.setblocking(False)
good = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3www\\7example\\3com\\0\\0\\1\\0\\1"
for n in range(2000):
    data = bytearray(good) if n % 2 else bytearray(os.urandom(random.randrange(600)))
    for _ in range(3):
        if data: data[random.randrange(len(data))] = random.randrange(256)
    try: s.send(data)
    except OSError: pass
for data in (b"", b"\\0", b"\\xff" * 65000, struct.pack("!H", 65535), struct.pack("!H", 2) + b"ab", struct.pack("!H", len(good)) + good[:-1]):
    t = socket.create_connection(("8.8.8.8", 53)); t.settimeout(0.2)
    try: t.sendall(data); t.recv(100)
    except OSError: pass
"""
    opened.files.write("/tmp/malformed.py", program)
    assert run(opened, "python3 /tmp/malformed.py", timeout=60)[0] == 0
    import time

    time.sleep(5)
    assert attempt(opened, "ask", "8.8.8.8", "www.example.com")["found"] == [SITE]


def test_what_is_no_question_is_refused_at_once(sandboxes, server):
    sandbox = sandboxes()
    said = attempts(sandbox, *(("echo", "8.8.8.8", 53, text) for text in ("GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n", "\0\1x")))
    assert all(refused(found) and found["error"] == "ConnectionResetError" for found in said), said
    assert "no question" in server.run("sandbox", "logs", sandbox.sandbox_id).stdout
    # Nor does it hold a place to say nothing.
    assert attempt(sandbox, "listen", "8.8.8.8", 53)["seconds"] < 5
