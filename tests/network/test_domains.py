"""Rules by name: who is asked for is reached, and nobody else, whatever a program claims."""

import json

import pytest

from conftest import attempt, attempts, refused, run, site
from world import OTHER, OTHER6, SITE, SITE6

ALL = {"deny_out": ["0.0.0.0/0"]}


@pytest.fixture(scope="module")
def named(server):
    """May reach www.example.com, and what is below api.example.com."""
    from conftest import furnished

    sandbox = furnished(server.create(network={"allow_out": ["www.example.com", "*.api.example.com"], **ALL}))
    yield sandbox
    sandbox.kill()


def test_allowed_names_are_reached_over_http_and_tls(named):
    for name in ("www.example.com", "WWW.Example.COM", "www.example.com.", "deep.api.example.com"):
        assert site(attempt(named, "http", SITE, name)) == SITE, name
    assert site(attempt(named, "http", SITE, "www.example.com:80")) == SITE
    for name in ("www.example.com", "deep.api.example.com"):
        assert site(attempt(named, "tls", SITE, name)) == SITE, name
    code, said = run(named, "curl -sS http://www.example.com:8080/x")
    assert code == 0 and f'"to": "{SITE}"' in said


def test_other_names_are_refused(named, world):
    mark = world.mark()
    names = ("example.com", "api.example.com", "other.org", "www.example.com.other.org", "xwww.example.com", "deep.api.example.com.evil.org", "wwwXexample.com")
    for name in names:
        over_http, over_tls = attempts(named, ("http", SITE, name), ("tls", SITE, name))
        assert over_http["status"] == 403 and name.lower() in over_http["body"] and "allowOut" in over_http["body"], over_http
        assert over_tls["error"] == "SSLError", over_tls
    assert world.seen(mark, what="packet") == []


@pytest.mark.parametrize("rule, name, expected", [
    ("*", "other.org", True),
    ("*.com", "www.example.com", True),
    ("*.com", "other.org", False),
    ("*.example.com", "example.com", False),
    ("EXAMPLE.com.", "example.com", True),
])  # fmt: skip
def test_wildcards(sandboxes, rule, name, expected):
    sandbox = sandboxes(network={"allow_out": [rule], **ALL})
    assert (attempt(sandbox, "http", SITE, name).get("status") == 200) == expected


def test_the_name_is_dialled_and_not_the_address(named, world):
    """A forged name leads to where the name leads, whatever address was called; so does /etc/hosts."""
    mark = world.mark()
    assert site(attempt(named, "http", OTHER, "www.example.com")) == SITE
    assert site(attempt(named, "tls", OTHER, "www.example.com")) == SITE
    run(named, f"echo '{OTHER} www.example.com' >> /etc/hosts", user="root")
    code, said = run(named, "curl -sS http://www.example.com/ && curl -sSk https://www.example.com/; sed -i /example/d /etc/hosts || true", user="root")
    assert said.count(f'"to": "{SITE}"') == 2, (code, said)
    assert world.seen(mark, to=OTHER) == []


def test_special_addresses_stay_refused_under_an_allowed_name(named, world):
    """Also when the address that is called is special: nothing is looked up for it."""
    mark = world.mark()
    for address in ("169.254.169.254", "10.9.8.7", "::ffff:10.9.8.7"):
        assert refused(attempt(named, "http", address, "www.example.com"))
    assert world.seen(mark, what="packet") == []


def test_a_name_that_leads_inside_is_refused(sandboxes, world, server):
    """Rebinding: the name is allowed, and its address changes to a private one between two looks."""
    sandbox = sandboxes(network={"allow_out": ["*.example.com"], **ALL})
    assert site(attempt(sandbox, "http", SITE, "turn.example.com")) if world.set_names(turn_example_com=[SITE]) else True
    private = ["10.9.8.7"], ["169.254.169.254"], ["127.0.0.1"], ["::ffff:10.9.8.7"], ["fd12::1"], ["::1"], ["45.83.0.1"]
    for addresses in private:
        world.set_names(turn_example_com=addresses)
        mark = world.mark()
        over_http, over_tls = attempts(sandbox, ("http", SITE, "turn.example.com"), ("tls", SITE, "turn.example.com"))
        assert over_http["status"] == 403 and "turn.example.com" in over_http["body"], (addresses, over_http)
        assert refused(over_tls)
        assert world.seen(mark, what="packet", protocol="tcp") == []
    world.set_names(turn_example_com=["10.9.8.7", SITE])
    assert site(attempt(sandbox, "http", SITE, "turn.example.com")) == SITE, "the public one of two is taken"


def test_protocols_without_a_name_go_by_what_was_resolved(sandboxes):
    sandbox = sandboxes(network={"allow_out": ["www.example.com"], **ALL})
    assert refused(attempt(sandbox, "echo", SITE)), "nobody asked for the name yet"
    assert attempt(sandbox, "ask", "8.8.8.8", "www.example.com")["found"] == [SITE]
    said, first, other = attempts(sandbox, ("echo", SITE), ("listen", SITE), ("echo", OTHER))
    assert said["said"] == "hello"
    assert first["said"] == f"220 {SITE}\r\n", "the server may speak first"
    assert refused(other)


def test_tls_without_a_name_is_refused(sandboxes, named):
    for name in ("", ):
        found = attempt(named, "tls", SITE, name)
        assert found["error"] == "SSLError", found
    assert run(named, f"curl -sSk https://{SITE}/")[0] != 0
    allowed = sandboxes(network={"allow_out": ["www.example.com", f"{SITE}/32"], **ALL})
    assert site(attempt(allowed, "tls", SITE)) == SITE, "an address that is allowed needs no name"


def test_a_literal_as_host_is_refused(named):
    for host in (SITE, f"{SITE}:80", "1572395042", "0x5db8d822", "[::1]", "", "a b", "www.example.com@other.org", "www.example.com:80:80"):
        found = attempt(named, "http", SITE, host)
        assert found["status"] == 403, (host, found)


@pytest.mark.parametrize("head", [
    "GET / HTTP/1.1\r\nHost: www.example.com\r\nHost: other.org\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: www.example.com\r\n Host: other.org\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : www.example.com\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: www.example.com\rX: y\r\n\r\n",
    "GET / HTTP/1.1\nHost: www.example.com\n\n\r\n\r\n",
    "GET http://other.org/ HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
    "CONNECT other.org:443 HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
    "GET / HTTP/1.1\r\nX: y\r\n\r\n",
    "GET /\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: www.example.com\0.other.org\r\n\r\n",
])  # fmt: skip
def test_requests_that_two_readers_could_read_differently_are_refused(named, world, head):
    named.files.write("/tmp/head", head.encode())
    mark = world.mark()
    program = f"import socket; s = socket.create_connection(('{SITE}', 80)); s.settimeout(15); s.sendall(open('/tmp/head', 'rb').read()); s.shutdown(1); print(s.recv(12).decode())"
    assert run(named, f'python3 -c "{program}"') == (0, "HTTP/1.1 403\n")
    assert world.seen(mark, what="packet") == []


def test_a_name_that_comes_a_byte_at_a_time_is_understood(named, world):
    program = """
import socket, ssl, sys, time
inner, outer = ssl.MemoryBIO(), ssl.MemoryBIO()
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
tls = context.wrap_bio(inner, outer, server_hostname=sys.argv[2])
try: tls.do_handshake()
except ssl.SSLWantReadError: pass
stream = socket.create_connection((sys.argv[1], 443)); stream.settimeout(15)
stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for byte in outer.read():
    stream.send(bytes([byte])); time.sleep(0.002)
print(stream.recv(1)[0])
"""
    named.files.write("/tmp/slow.py", program)
    assert run(named, f"python3 /tmp/slow.py {SITE} www.example.com") == (0, "22\n"), "a handshake comes back"
    mark = world.mark()
    assert run(named, f"python3 /tmp/slow.py {SITE} other.org") == (0, "21\n"), "an alert comes back"
    assert world.seen(mark, what="packet") == []


def test_garbage_and_silence_are_refused_in_time(named, world):
    program = """
import os, socket, sys, time
for data in (b"", os.urandom(4000), b"\\x16\\x03\\x01\\xff\\xff" + bytes(70000), b"\\x16" * 100, b"GET " + b"a" * 70000, b"\\x16\\x03\\x01\\x00\\x00", b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n", b"\\x05\\x01\\x00", b"SSH-2.0-x\\r\\n"):
    began = time.monotonic()
    s = socket.create_connection((sys.argv[1], 443)); s.settimeout(20)
    try:
        s.sendall(data)
        got = s.recv(1000)
    except OSError as error:
        got = type(error).__name__.encode()
    print(got.split(b" ")[:2], time.monotonic() - began < 12)
"""
    named.files.write("/tmp/garbage.py", program)
    mark = world.mark()
    code, said = run(named, f"python3 /tmp/garbage.py {OTHER}", timeout=180)
    assert code == 0 and len(said.splitlines()) == 9 and all(line.endswith("True") for line in said.splitlines()), said
    assert world.seen(mark, what="packet") == []


def test_ipv6_goes_by_the_same_rules(sandboxes):
    sandbox = sandboxes(network={"allow_out": ["six.example.com"], **ALL})
    assert site(attempt(sandbox, "http", SITE6, "six.example.com")) == SITE6
    assert site(attempt(sandbox, "tls", OTHER6, "six.example.com")) == SITE6
    assert site(attempt(sandbox, "http", OTHER, "six.example.com")) == SITE6, "the family of the call has no say"
    assert refused(attempt(sandbox, "http", SITE6, "www.example.com"))


TALK = """
import json, socket, sys, time
def talk(address, parts):
    stream = socket.create_connection((address, 80)); stream.settimeout(5)
    for part in parts:
        if isinstance(part, float): time.sleep(part)
        elif part is None: yield answer(stream)
        else: stream.sendall(part.encode())
def answer(stream):
    try:
        head = b""
        while not head.endswith(b"\\r\\n\\r\\n"): head += stream.recv(1) or b"end\\r\\n\\r\\n"
        fields = dict(line.lower().split(b": ") for line in head.split(b"\\r\\n")[1:] if b": " in line)
        for _ in range(int(fields.get(b"content-length", 0))): stream.recv(1)
        return head.split()[1].decode() if b" " in head else "end"
    except ConnectionError: return "end"
print(json.dumps([list(talk(sys.argv[1], parts)) for parts in json.load(open("/tmp/talk.json"))]))
"""


def talk(sandbox, *conversations):
    """The status of each answer, where a `None` reads one; `end` where there is none. Numbers are seconds to wait."""
    sandbox.files.write("/tmp/talk.py", TALK)
    sandbox.files.write("/tmp/talk.json", json.dumps(conversations))
    code, said = run(sandbox, f"python3 /tmp/talk.py {SITE}", timeout=60)
    assert code == 0, said
    return json.loads(said)


def request(host, line="GET /evil HTTP/1.1"):
    return f"{line}\r\nHost: {host}\r\n\r\n"


@pytest.fixture
def pinned(named):
    """It has asked for an allowed name, for whose address other protocols are let through then."""
    attempt(named, "ask", "8.8.8.8", "www.example.com")
    return named


def test_each_request_of_a_kept_connection_is_judged(pinned, world):
    good = request("www.example.com", "GET /a HTTP/1.1")
    mark = world.mark()
    said = talk(
        pinned,
        [good, None, request("api.example.com", "POST /evil HTTP/1.1"), None],
        [good, None, request("denied.example.com"), None],
        [good + request("denied.example.com"), None, None],
        [good, None, request("www.example.com\r\nHost: api.example.com"), None],
        [good, None, "GET http://api.example.com/evil HTTP/1.1\r\nHost: www.example.com\r\n\r\n", None],
        [good, None, good, None, request("www.example.com", "BREW /a HTTP/1.1"), None],
    )
    assert said == [["200", "421"]] * 5 + [["200", "200", "200"]]
    assert {(seen["host"], seen["path"]) for seen in world.seen(mark, what="http")} == {("www.example.com", "/a")}


def test_a_request_of_whatever_method_is_one(pinned, world):
    mark = world.mark()
    lines = ["BREW /evil HTTP/1.1", "get /evil HTTP/1.1", "PROPFIND /evil HTTP/1.0", "PRI * HTTP/2.0", "\r\nGET /evil HTTP/1.1", "GET /evil"]
    assert talk(pinned, *([request("api.example.com", line), None] for line in lines)) == [["403"]] * len(lines)
    assert [seen["host"] for seen in world.seen(mark, what="http")] == []


def test_a_request_that_begins_late_is_judged_too(pinned, world):
    mark = world.mark()
    said = talk(
        pinned,
        [0.6, request("api.example.com"), None],
        [0.6, request("www.example.com", "GET /late HTTP/1.1"), None],
        ["BR", 0.6, request("api.example.com", "EW /evil HTTP/1.1"), None],
        ["\r\n", 0.6, request("api.example.com"), None],
    )
    assert said == [["403"], ["200"], ["end"], ["403"]]
    assert [(seen["host"], seen["path"]) for seen in world.seen(mark, what="http")] == [("www.example.com", "/late")]
