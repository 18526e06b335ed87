"""What a sandbox reaches by address: with rules and without, and what it never reaches."""

import json

import pytest

from conftest import attempt, attempts, refused, run, serve, site
from world import MACHINE, MACHINE6, MACHINE_TOO, OTHER, OTHER6, SITE, SITE6

# In every range that is no place of the internet, and the same places as IPv6 writes them.
SPECIAL = [
    "10.9.8.7", "172.16.0.1", "172.31.255.254", "192.168.77.7", "169.254.10.1", "169.254.169.254", "100.100.100.200",
    "168.63.129.16", "100.64.1.1", "100.127.255.254", "0.1.2.3", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.7",
    "203.0.113.9", "224.0.0.251", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "fd00:ec2::254", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1", "ff0e::1", "64:ff9b::a09:807", "64:ff9b:1::a09:807",
    "2002:a09:807::1", "2001:0:a09:807::1", "::10.9.8.7", "::ffff:10.9.8.7", "::ffff:169.254.169.254", "::ffff:0:10.9.8.7",
    "2001:db8::1", "3fff::1", "2a0e:4::5efe:a09:807",
]  # fmt: skip


def test_without_rules_the_internet_is_open(opened, world):
    by_address, by_name, six, tls, other = attempts(
        opened,
        ("http", SITE, SITE),
        ("http", SITE, "www.example.com"),
        ("http", SITE6, "six.example.com"),
        ("tls", SITE, "www.example.com"),
        ("echo", OTHER),
    )
    assert (site(by_address), site(by_name), site(six), site(tls)) == (SITE, SITE, SITE6, SITE)
    assert other["said"] == "hello"
    assert attempt(opened, "resolve", "both.example.com")["found"] == [SITE6, SITE]
    code, said = run(opened, "curl -sS http://www.example.com/x && curl -sS -6 http://both.example.com/y")
    assert code == 0 and f'"to": "{SITE}"' in said and f'"to": "{SITE6}"' in said
    assert world.seen(what="tcp", to=SITE)[0]["by"] == MACHINE, "the machine dials in the sandbox's place"


@pytest.mark.parametrize("rules", [{}, {"network": {"allow_out": ["0.0.0.0/0", "::/0", *(a for a in SPECIAL if ":" not in a)]}}], ids=["none", "all allowed"])
def test_special_addresses_are_refused_always(sandboxes, world, rules):
    sandbox = sandboxes(**rules)
    mark = world.mark()
    found = attempts(sandbox, *(("http", address, "x") for address in SPECIAL), *(("tls", address) for address in SPECIAL))
    reached = [(address, one) for address, one in zip(SPECIAL * 2, found) if not refused(one)]
    assert reached == []
    assert world.seen(mark, what="packet") == [], "nothing left the machine"


def test_a_refusal_says_why_where_http_can_and_in_the_log(sandboxes, server):
    sandbox = sandboxes()
    metadata, private, tls = attempts(sandbox, ("http", "169.254.169.254", "x"), ("http", "10.9.8.7", "x"), ("tls", "10.9.8.8", "a.b"))
    assert metadata["status"] == private["status"] == 403
    assert "169.254.169.254:80" in metadata["body"] and "cloud metadata address" in metadata["body"]
    assert "private address" in private["body"] and "--allow-private-egress" in private["body"]
    assert tls["error"] == "SSLError" and "access denied" in tls["text"].lower().replace("_", " ")
    logged = server.run("sandbox", "logs", sandbox.sandbox_id).stdout
    for text in ("169.254.169.254:80", "cloud metadata address", "10.9.8.8:443"):
        assert text in logged, logged


def test_the_machine_itself_is_refused(opened, server, world):
    """Its addresses are public here, as on a machine in a cloud, and the API listens on one."""
    targets = [(MACHINE, 80), (MACHINE6, 80), (MACHINE_TOO, 80), (f"::ffff:{MACHINE}", 80), (MACHINE, server.port), (MACHINE, 22)]
    for found in attempts(opened, *(("http", address, "x", port) for address, port in targets)):
        assert refused(found) and "machine that hosts this sandbox" in found["body"]


def test_what_is_the_sandboxs_own_stays_inside(opened, server):
    """Its loopback is not the machine's, whatever listens there."""
    for address in ("127.0.0.1", "127.0.0.53", "::1", "10.0.2.15", "fd00:2::15", "0.0.0.0", "localhost"):
        found = attempt(opened, "http", address, "x", server.port)
        assert refused(found), (address, found)
    probe = "python3 -c \"import socket; s = socket.create_server(('', 7654)); c = socket.create_connection(('127.0.0.1', 7654)); print(s.accept()[1][0])\""
    assert run(opened, probe) == (0, "127.0.0.1\n")


@pytest.fixture(scope="module")
def lenient(world):
    """A server whose operator opened some ranges."""
    ranges = ("10.9.0.0/16", "169.254.0.0/16", "fd12::/16", f"{MACHINE}/32")
    with serve(*(word for range in ranges for word in ("--allow-private-egress", range))) as server:
        yield server


def test_what_the_operator_opens_is_reached(sandboxes, lenient):
    sandbox = sandboxes(lenient)
    for address in ("10.9.8.7", "::ffff:10.9.8.7", "169.254.169.254", "fd12:3456::1", SITE):
        found = attempt(sandbox, "http", address, "x")
        assert site(found) == address.removeprefix("::ffff:")
    for address in ("10.10.8.7", "192.168.1.1", "fd13::1", MACHINE6):
        assert refused(attempt(sandbox, "http", address, "x")), address
    # Rules of the sandbox go on from there.
    strict = sandboxes(lenient, allow_internet_access=False, network={"allow_out": ["10.9.8.7"]})
    assert site(attempt(strict, "http", "10.9.8.7", "x")) == "10.9.8.7"
    assert refused(attempt(strict, "http", "10.9.8.8", "x"))


def test_an_opened_address_of_the_machine_is_reached(sandboxes, lenient):
    """The API then answers, which asks for its key."""
    lenient_listens = attempt(sandboxes(lenient), "http", MACHINE, "x", 9999)
    assert lenient_listens.get("status") == 502, "nothing listens there, which is said instead of a refusal"


def test_without_internet_nothing_is_reached(sandboxes, world):
    sandbox = sandboxes(allow_internet_access=False)
    mark = world.mark()
    for found in attempts(
        sandbox,
        ("http", SITE, "www.example.com"),
        ("http", SITE6, "six.example.com"),
        ("tls", SITE, "www.example.com"),
        ("echo", SITE),
        ("listen", SITE),
        ("udp", SITE, 443),
        ("ask", "8.8.8.8", "www.example.com"),
        ("ask", "8.8.8.8", "www.example.com", "A", "tcp"),
        ("resolve", "www.example.com"),
    ):
        assert refused(found), found
    assert world.seen(mark) == [], "no packet left the machine"
    code, said = run(sandbox, "curl -sS -o /dev/null -w '%{http_code}' http://www.example.com")
    assert code == 6 and "Could not resolve host" in said


@pytest.mark.parametrize(
    "rules, reached",
    [
        ({"allow_out": [SITE], "deny_out": ["0.0.0.0/0"]}, {SITE}),
        ({"allow_out": ["93.184.216.0/24"], "deny_out": ["0.0.0.0/0"]}, {SITE, OTHER}),
        ({"deny_out": [SITE]}, {OTHER, SITE6, OTHER6}),
        ({"deny_out": ["93.184.0.0/16"]}, {SITE6, OTHER6}),
        ({"allow_out": [OTHER], "deny_out": ["93.184.216.0/24"]}, {OTHER, SITE6, OTHER6}),
        ({"allow_out": ["93.184.216.0/24"], "deny_out": [OTHER]}, {SITE, OTHER, SITE6, OTHER6}),
        ({"deny_out": ["0.0.0.0/0"]}, set()),
        ({"deny_out": ["0.0.0.0/1", "128.0.0.0/1"]}, {SITE6, OTHER6}),
    ],
    ids=["address", "range", "deny address", "deny range", "exception", "allow beats deny", "deny all", "halves"],
)
def test_rules_by_address(sandboxes, world, rules, reached):
    sandbox = sandboxes(network=rules)
    mark = world.mark()
    places = [SITE, OTHER, SITE6, OTHER6]
    found = attempts(sandbox, *(("http", address, address if ":" not in address else f"[{address}]") for address in places))
    assert {address for address, one in zip(places, found) if one.get("status") == 200} == reached, found
    assert {event["to"] for event in world.seen(mark, what="packet", protocol="tcp")} == reached
    for address, one in zip(places, found):
        if address not in reached:
            assert refused(one) and "allowOut" in one["body"], one


def test_rules_by_address_hold_for_every_protocol(sandboxes):
    sandbox = sandboxes(network={"allow_out": [SITE], "deny_out": ["0.0.0.0/0"]})
    lines = [("echo",), ("listen",), ("tls",), ("http", "other.org"), ("http", "x", "8080")]
    allowed = attempts(sandbox, *((how, SITE, *more) for how, *more in lines))
    denied = attempts(sandbox, *((how, OTHER, *more) for how, *more in lines))
    assert all("error" not in found for found in allowed), allowed
    assert all(refused(found) for found in denied), denied


def test_what_is_no_tcp_is_refused_at_once(opened, world):
    mark = world.mark()
    for found in attempts(opened, *(("udp", address, port) for address in (SITE, SITE6, "10.9.8.7") for port in (443, 123, 54, 5353))):
        assert found["error"] == "ConnectionRefusedError" and found["seconds"] < 3, found
    program = """
import socket
for family, kind, protocol in ((2, 3, 1), (2, 2, 1), (10, 3, 58), (2, 3, 255), (17, 3, 768), (2, 5, 132)):
    try:
        s = socket.socket(family, kind, protocol); s.settimeout(1)
        s.sendto(b"\\x08\\0" + bytes(30), ("%s", 1)); print("sent")
    except OSError as error:
        print(type(error).__name__)
"""
    opened.files.write("/tmp/raw.py", program % SITE)
    code, said = run(opened, "python3 /tmp/raw.py", user="root")
    assert code == 0 and len(said.split()) == 6
    assert world.seen(mark, what="packet") == [], "no datagram, echo or raw packet left the machine"


def test_settings_are_echoed(sandboxes):
    network = {"allow_out": ["www.example.com", "8.8.8.0/24"], "deny_out": ["0.0.0.0/0"]}
    info = sandboxes(network=network, allow_internet_access=False).get_info()
    assert info.allow_internet_access is False
    assert json.loads(json.dumps(info.network))["allow_out"] == network["allow_out"]


def test_ranges_mean_what_they_say_in_either_family(sandboxes):
    """IPv4 in IPv6 is IPv4, all of IPv6 is no IPv4, and names have addresses where all traffic is allowed."""
    for range_ in (f"::ffff:{SITE}", "::ffff:93.184.216.0/120"):
        sandbox = sandboxes(network={"deny_out": [range_]})
        found = attempts(sandbox, ("echo", SITE), ("echo", f"::ffff:{SITE}"), ("echo", SITE6))
        assert [refused(each) for each in found] == [True, True, False], (range_, found)
    sandbox = sandboxes(network={"allow_out": ["::/0"], "deny_out": ["0.0.0.0/0"]})
    four, six, named = attempts(sandbox, ("echo", SITE), ("echo", SITE6), ("ask", "8.8.8.8", "both.example.com", "AAAA"))
    assert refused(four) and six["said"] == "hello" and named["found"] == [SITE6]
    sandbox = sandboxes(network={"allow_out": ["0.0.0.0/0"]}, allow_internet_access=False)
    four, six, named = attempts(sandbox, ("echo", SITE), ("echo", SITE6), ("ask", "8.8.8.8", "www.example.com"))
    assert (four["said"], six["said"], named["found"]) == ("hello", "hello", [SITE])
