"""Rules that set headers: what the host gets, what the sandbox sees, and what leaves at all."""

import json
import signal
import time
import urllib.error
import urllib.request

import e2b
import pytest
from conftest import VALUE, WORLD, attempt, events, fetch, furnished, last_request, run, site
from test_changes import until
from test_domains import request, talk
from world import MACHINE, OTHER, SITE

ALL = {"deny_out": ["0.0.0.0/0"]}


def rules(**headers):
    return {"api.example.com": [{"transform": {"headers": headers}}]}


@pytest.fixture(scope="module")
def keyed(trusting):
    network = {"rules": rules(Authorization="Bearer ${e2b.secrets.key}", **{"X-Team": "blue"})}
    sandbox = furnished(trusting.create(network=network))
    yield sandbox
    sandbox.kill()


def test_the_host_gets_the_secret_and_the_sandbox_does_not(keyed, world):
    mark = world.mark()
    code, said = fetch(keyed, "https://api.example.com/v1?q=1", "-H 'authorization: mine'", "-H 'x-team: red'", "-d body")
    assert code == 0, said
    request = last_request(world, mark)
    assert request["headers"]["authorization"] == f"Bearer {VALUE}"
    assert request["headers"]["x-team"] == "blue"
    assert (request["method"], request["path"], request["host"]) == ("POST", "/v1?q=1", "api.example.com")
    # The host sends back what it got.
    answer = json.loads(said)
    assert answer["length"] == 4 and answer["headers"]["authorization"] == "Bearer " + "*" * len(VALUE)


def test_the_value_is_nowhere_inside(keyed):
    fetch(keyed, "https://api.example.com/")
    script = f"""
import glob
needle = "{VALUE[:8]}" + "{VALUE[8:]}"
found = []
for name in glob.glob("/proc/[0-9]*/environ") + glob.glob("/etc/**/*", recursive=True) + glob.glob("/tmp/**/*", recursive=True):
    try:
        if needle.encode() in open(name, "rb").read() and not name.endswith("look.py"):
            found.append(name)
    except OSError:
        pass
print(found)
"""
    keyed.files.write("/tmp/look.py", script)
    assert run(keyed, "python3 /tmp/look.py", user="root")[1].strip() == "[]"


def test_other_hosts_are_not_opened(keyed, world):
    """Their TLS is that of the world, which the sandbox does not trust, and no rule applies."""
    code, said = fetch(keyed, "https://www.example.com/")
    assert code == 60, said
    mark = world.mark()
    code, said = fetch(keyed, "https://www.example.com/", "-k")
    assert code == 0, said
    assert "authorization" not in last_request(world, mark)["headers"]


def test_programs_with_certificates_of_their_own_trust_it_too(keyed):
    code, said = run(keyed, "python3 -c 'import urllib.request as u; print(u.urlopen(\"https://api.example.com/\").status)'")
    assert (code, said.strip()) == (0, "200"), said


def test_a_secret_does_not_leave_in_the_clear(keyed, world):
    mark = world.mark()
    code, said = fetch(keyed, "http://api.example.com/")
    assert "only leaves over TLS" in said and VALUE not in said
    assert world.seen(mark, what="http") == []


def test_plain_values_are_set_on_plain_http(trusting, world):
    sandbox = furnished(trusting.create(network={"rules": rules(**{"X-Team": "blue"})}))
    try:
        mark = world.mark()
        assert site(attempt(sandbox, "http", SITE, "api.example.com")) == SITE
        assert last_request(world, mark)["headers"]["x-team"] == "blue"
    finally:
        sandbox.kill()


def test_a_secret_goes_to_the_port_of_https_alone(keyed, world):
    mark = world.mark()
    assert "at port 443" in fetch(keyed, "https://api.example.com:8443/")[1]
    assert world.seen(mark, what="http") == []


def test_a_header_that_some_server_takes_for_the_rules_does_not_stand_beside_it(keyed, world):
    mark = world.mark()
    assert fetch(keyed, "https://api.example.com/", "-H 'X_Team: red'", "-H 'x.team: red'", "-H 'X-Teams: red'")[0] == 0
    headers = last_request(world, mark)["headers"]
    assert {name: value for name, value in headers.items() if "team" in name} == {"x-team": "blue", "x-teams": "red"}


def test_a_refused_request_is_one_decision(trusting, keyed):
    before = events(trusting, keyed, protocol="http")
    fetch(keyed, "http://api.example.com/")
    after = events(trusting, keyed, protocol="http")
    assert [event["decision"] for event in after[len(before) :]] == ["denied"]


def test_a_secret_that_is_no_header_is_told_before_it_is_used(trusting):
    trusting.run("secret", "set", "lines", input="one\ntwo")
    with pytest.raises(e2b.SandboxException, match="line break"):
        trusting.create(network={"rules": rules(Authorization="${e2b.secrets.lines}")})


CROWD = """
import socket, sys
def begin():
    stream = socket.create_connection((sys.argv[1], 80)); stream.settimeout(15)
    stream.sendall(b"GET / HTTP/1.1\\r\\nHost: api.example.com\\r\\n\\r\\n")
    return stream, stream.recv(12).decode()
held = [begin() for _ in range(129)]
print({said for _, said in held[:128]}, held[128][1])
"""


def test_more_opened_connections_than_fit_are_told(trusting, sandboxes):
    sandbox = sandboxes(on=trusting, network={"rules": rules(**{"X-Team": "blue"})})
    sandbox.files.write("/tmp/crowd.py", CROWD)
    assert run(sandbox, f"python3 /tmp/crowd.py {SITE}") == (0, "{'HTTP/1.1 200'} HTTP/1.1 503\n")
    [denied] = events(trusting, sandbox, decision="denied")
    assert denied["rule"] == "opened connections" and denied["name"] == "api.example.com"
    assert "looked into" in trusting.run("sandbox", "logs", sandbox.sandbox_id).stdout


def test_requests_that_are_none_for_a_host_are_told(trusting, world, sandboxes):
    """Too long ones where they are read, and where reading them ends."""
    sandbox = sandboxes(on=trusting, network={"rules": rules(**{"X-Team": "blue"})})
    many = "".join(f"x-{n}: {'a' * 90}\r\n" for n in range(550))
    lines = ["CONNECT api.example.com:80 HTTP/1.1\r\n", "GET / HTTP/1.1\r\n" + many, "GET / HTTP/1.1\r\n" + many * 2]
    mark = world.mark()
    first = ["GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", None]
    said = talk(sandbox, *([*first, f"{line}Host: api.example.com\r\n\r\n", None] for line in lines))
    assert said == [["200", "405"], ["200", "431"], ["200", "431"]]
    assert [event["rule"] for event in events(trusting, sandbox, decision="denied")] == ["method", "headers", "headers"]
    assert len(world.seen(mark, what="http")) == 3
    assert trusting.run("sandbox", "logs", sandbox.sandbox_id).stdout.count("at most 65536 bytes") == 2


ABANDON = """
import socket, ssl, sys, time
address, port, path, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
tls = ssl.create_default_context()
def begin():
    stream = socket.create_connection((address, port)); stream.settimeout(20)
    if port == 443: stream = tls.wrap_socket(stream, server_hostname="api.example.com")
    stream.sendall(f"GET {path} HTTP/1.1\\r\\nHost: api.example.com\\r\\n\\r\\n".encode())
    if path == "/stalls":
        said = b""
        while not said.endswith(b"half"): said += stream.recv(100)
    time.sleep(0.1)
    stream.close()
for _ in range(count): begin()
"""


@pytest.mark.parametrize("port, path", [(80, "/never"), (443, "/never"), (80, "/stalls")])
def test_places_of_clients_that_left_are_free_again(trusting, world, sandboxes, port, path):
    sandbox = sandboxes(on=trusting, network={"rules": rules(**{"X-Team": "blue"})})
    sandbox.files.write("/tmp/abandon.py", ABANDON)
    mark = world.mark()
    assert run(sandbox, f"python3 /tmp/abandon.py {SITE} {port} {path} 129", timeout=60) == (0, "")
    assert fetch(sandbox, "http://api.example.com/", "-o /dev/null -w '%{http_code}'") == (0, "200")
    assert len(world.seen(mark, what="http", path=path)) == 129
    until(lambda: len(world.seen(mark, what="closed", to=SITE, port=port)) >= 129)


def test_who_closes_its_side_behind_a_request_gets_the_answer(trusting, sandboxes):
    sandbox = sandboxes(on=trusting, network={"rules": rules(**{"X-Team": "blue"})})
    assert attempt(sandbox, "http", SITE, "api.example.com", 80, "/late")["status"] == 200


def test_who_closes_its_side_behind_a_request_and_left_is_noticed(trusting, world, sandboxes):
    sandbox = sandboxes(on=trusting, network={"rules": rules(**{"X-Team": "blue"})})
    mark, began = world.mark(), time.monotonic()
    sandbox.files.write("/tmp/abandon.py", ABANDON.replace("time.sleep(0.1)", ""))
    assert run(sandbox, f"python3 /tmp/abandon.py {SITE} 80 /never 10", timeout=60) == (0, "")
    until(lambda: len(world.seen(mark, what="closed", to=SITE)) == 10, 15)
    assert time.monotonic() - began > 8


TUNNELS = """
import socket, sys, time
def ask(path, more=""):
    stream = socket.create_connection((sys.argv[1], 80)); stream.settimeout(20)
    stream.sendall(f"GET {path} HTTP/1.1\\r\\nHost: api.example.com\\r\\n{more}\\r\\n".encode())
    return stream, stream.recv(1000).split()[1].decode()
def tunnel(): return ask("/tunnel", "Connection: upgrade\\r\\nUpgrade: websocket\\r\\n")
tunnels = [tunnel() for _ in range(128)]
print({status for _, status in tunnels}, ask("/")[1])
kept = tunnels.pop(0)[0]
del tunnels
began = time.monotonic()
while ask("/")[1] != "200" and time.monotonic() < began + 20: pass
kept.sendall(b"still here")
print(time.monotonic() - began < 20, kept.recv(100).decode())
"""


def test_tunnels_that_the_client_left_end_and_others_live_on(trusting, sandboxes):
    sandbox = sandboxes(on=trusting, network={"rules": rules(**{"X-Team": "blue"})})
    sandbox.files.write("/tmp/tunnels.py", TUNNELS)
    assert run(sandbox, f"python3 /tmp/tunnels.py {SITE}", timeout=60) == (0, "{'101'} 503\nTrue still here\n")


def test_a_request_for_another_host_goes_nowhere(keyed, world):
    mark = world.mark()
    code, said = fetch(keyed, "https://api.example.com/", "-H 'Host: other.org'", "-w '%{http_code}'")
    assert said.endswith("421"), said
    assert world.seen(mark, what="http") == []


def test_an_impostor_gets_nothing(trusting, world):
    """The host that the name leads to cannot show a certificate for it."""
    world.set_names(api_evil_net=[SITE])
    network = {"rules": {"api.evil.net": [{"transform": {"headers": {"Authorization": "${e2b.secrets.key}"}}}]}}
    sandbox = furnished(trusting.create(network=network))
    try:
        mark = world.mark()
        code, said = fetch(sandbox, "https://api.evil.net/", "-w '%{http_code}'")
        assert said.endswith("502") and "TLS failed" in said, said
        assert world.seen(mark, what="http") == []
    finally:
        sandbox.kill()


def test_a_rule_allows_nothing(trusting, world):
    sandbox = furnished(trusting.create(network={"allow_out": ["other.org"], **ALL, "rules": rules(**{"X-Team": "blue"})}))
    try:
        mark = world.mark()
        code, said = fetch(sandbox, "https://api.example.com/", f"--resolve api.example.com:443:{SITE}")
        assert code != 0
        assert world.seen(mark, what="http") == []
    finally:
        sandbox.kill()


def test_rules_come_and_go_while_it_runs(trusting, world):
    sandbox = furnished(trusting.create())
    try:
        assert fetch(sandbox, "https://api.example.com/")[0] == 60
        sandbox.update_network({"rules": rules(**{"X-Team": "green"})})
        mark = world.mark()
        code, said = fetch(sandbox, "https://api.example.com/")
        assert code == 0, said
        assert last_request(world, mark)["headers"]["x-team"] == "green"
        sandbox.update_network({})
        assert fetch(sandbox, "https://api.example.com/")[0] == 60
    finally:
        sandbox.kill()


HELD = """
import socket, sys, time
stream = socket.create_connection((sys.argv[1], 80)); stream.settimeout(20)
stream.sendall(b"POST / HTTP/1.1\\r\\nHost: api.example.com\\r\\nContent-Length: 10\\r\\n\\r\\nhalf")
try: said = stream.recv(100)
except ConnectionResetError: said = b""
open("/tmp/ended", "w").write(repr(said))
"""


def test_a_request_is_cut_by_where_it_really_goes(trusting, world):
    """Whatever address the sandbox takes for the host's, also while that one stays allowed."""
    network = {"rules": rules(**{"X-Team": "blue"})}
    sandbox = furnished(trusting.create(network=network))
    try:
        mark = world.mark()
        sandbox.files.write("/tmp/held.py", HELD)
        sandbox.commands.run(f"python3 /tmp/held.py {OTHER}", background=True, timeout=0)
        until(lambda: world.seen(mark, what="tcp", to=SITE))
        sandbox.update_network({**network, "deny_out": [MACHINE]})
        time.sleep(0.3)
        assert not sandbox.files.exists("/tmp/ended")
        sandbox.update_network({**network, "deny_out": [SITE]})
        until(lambda: sandbox.files.exists("/tmp/ended"))
        until(lambda: world.seen(mark, what="closed", to=SITE))
        assert not world.seen(mark, what="tcp", to=OTHER)
    finally:
        sandbox.kill()


def test_rules_outlive_the_server(trusting, keyed, world):
    trusting.stop(signal.SIGKILL)
    trusting.start()
    mark = world.mark()
    code, said = fetch(keyed, "https://api.example.com/")
    assert code == 0, said
    assert last_request(world, mark)["headers"]["authorization"] == f"Bearer {VALUE}"


@pytest.mark.parametrize("value, named", [("${e2b.secrets.nobody}", "nobody"), ("${e2b.secrets.bound}", "bound"), ("${e2b.secrets", "}")])
def test_bad_rules_are_told(trusting, value, named):
    with pytest.raises(e2b.SandboxException, match=named):
        trusting.create(network={"rules": rules(Authorization=value)})


def test_a_secret_that_is_gone_is_told(trusting, world):
    trusting.run("secret", "set", "brief", input="gone-in-a-moment")
    sandbox = furnished(trusting.create(network={"rules": rules(Authorization="${e2b.secrets.brief}")}))
    try:
        trusting.run("secret", "rm", "brief")
        mark = world.mark()
        code, said = fetch(sandbox, "https://api.example.com/", "-w '%{http_code}'")
        assert said.endswith("403") and "brief" in said, said
        assert world.seen(mark, what="http") == []
    finally:
        sandbox.kill()


class TestEgressProxy:
    def proxied(self, trusting, password):
        proxy = {"address": f"{WORLD}:1080", "username": "walker", "password": password}
        return furnished(trusting.create(network={"egress_proxy": proxy}))

    def test_everything_goes_through_it(self, trusting, world):
        sandbox = self.proxied(trusting, "seven-leagues")
        try:
            mark = world.mark()
            assert attempt(sandbox, "http", SITE, "www.example.com")["status"] == 200
            assert [seen["target"] for seen in world.seen(mark, what="socks")] == [SITE]
            shown = sandbox.get_info()
            assert "seven-leagues" not in repr(shown)
        finally:
            sandbox.kill()

    def sealed(self, server, **tls):
        proxy = {"address": f"{WORLD}:1443", "username": "walker", "password": "seven-leagues", "tls": tls}
        return furnished(server.create(network={"egress_proxy": proxy}))

    def test_inside_tls(self, trusting, server, world):
        """Verified by what the machine trusts, or by a certificate of the owner's."""
        owns = {"ca_cert": world.authority.certificate.read_text()}
        for where, tls in ((trusting, {}), (server, owns)):
            sandbox = self.sealed(where, server_name="proxy.example.com", **tls)
            try:
                mark = world.mark()
                # No end of one direction alone, which TLS of the world's kind does not know.
                assert fetch(sandbox, "http://www.example.com/", "-o /dev/null -w '%{http_code}'") == (0, "200")
                assert [seen["name"] for seen in world.seen(mark, what="sni")] == ["proxy.example.com"]
                assert [seen["target"] for seen in world.seen(mark, what="socks")] == [SITE]
                read = "import socket; s = socket.create_connection(('%s', 5001)); s.sendall(b'3000000\\n'); print(len(s.makefile('rb').read(3000000)))"
                assert run(sandbox, f'python3 -c "{read % SITE}"')[1].strip() == "3000000"
                assert "BEGIN CERTIFICATE" not in repr(sandbox.get_info())
            finally:
                sandbox.kill()

    def test_an_impostor_of_a_proxy_gets_no_password(self, trusting, world):
        for tls in ({"server_name": "proxy.evil.net"}, {"server_name": "proxy.example.com", "ca_cert": world.authority.chain.read_text()}):
            sandbox = self.sealed(trusting, **tls)
            try:
                mark = world.mark()
                assert attempt(sandbox, "http", SITE, "www.example.com").get("status") == 502
                assert world.seen(mark, what="socks") == []
            finally:
                sandbox.kill()

    def test_a_certificate_that_is_none(self, server):
        with pytest.raises(e2b.SandboxException, match="caCert"):
            self.sealed(server, ca_cert="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    def test_one_that_leads_inside_is_named(self, trusting, world):
        world.set_names(proxy_example_com=["127.0.0.1"])
        sandbox = furnished(trusting.create(network={"egress_proxy": {"address": "proxy.example.com:1080"}}))
        try:
            said = attempt(sandbox, "http", SITE, "www.example.com")
            assert said["status"] == 403 and "its egressProxy, which is at 127.0.0.1: it is a loopback" in said["body"]
        finally:
            sandbox.kill()

    def test_there_is_no_other_way(self, trusting, world):
        sandbox = self.proxied(trusting, "wrong")
        try:
            mark = world.mark()
            assert attempt(sandbox, "http", SITE, "www.example.com").get("status") == 502
            assert world.seen(mark, what="http") == []
        finally:
            sandbox.kill()


class TestRequests:
    """SoulBox's own: which requests a host gets, and how many."""

    def put(self, server, sandbox, code=204, **body):
        variables = server.environment()
        request = urllib.request.Request(
            f"{server.url}/soulbox/v1/sandboxes/{sandbox.sandbox_id}/requests",
            data=json.dumps(body).encode(),
            method="PUT",
            headers={"X-API-Key": variables["E2B_API_KEY"], "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                assert answer.status == code
        except urllib.error.HTTPError as error:
            assert error.code == code, error.read()
            return json.loads(error.read())["message"]

    def status(self, sandbox, url, *options):
        return fetch(sandbox, url, "-o /tmp/answer -w '%{http_code}'", *options)[1]

    def test_methods_and_paths(self, trusting, world, sandboxes):
        sandbox = sandboxes(on=trusting, network={"allow_out": ["*.example.com"], **ALL})
        self.put(trusting, sandbox, allow=["GET api.example.com/v1/*", "POST api.example.com/v1/items"])
        mark = world.mark()
        for url, options, expected in [
            ("https://api.example.com/v1/x?y=1", [], "200"),
            ("http://api.example.com/v1/x", [], "200"),
            ("https://api.example.com/v1/items", ["-d x"], "200"),
            ("https://api.example.com/v1/x", ["-d x"], "403"),
            ("https://api.example.com/v2", [], "403"),
            ("https://api.example.com/v1/../v2", ["--path-as-is"], "403"),
            ("https://api.example.com/v1/%2e%2e/v2", ["--path-as-is"], "403"),
        ]:
            assert self.status(sandbox, url, *options) == expected, url
        assert {seen["path"] for seen in world.seen(mark, what="http")} == {"/v1/x?y=1", "/v1/x", "/v1/items"}
        assert "no request rule allows GET /v1/%2e%2e/v2" in run(sandbox, "cat /tmp/answer")[1]
        # Hosts that no rule names are as before, and what is no HTTP does not lead around the rules.
        assert self.status(sandbox, "http://www.example.com/any") == "200"
        run(sandbox, "getent hosts api.example.com")
        assert attempt(sandbox, "echo", SITE).get("said") is None

    def test_no_kept_connection_to_another_host_of_the_server_leads_around_them(self, trusting, world, sandboxes):
        sandbox = sandboxes(on=trusting, network={"allow_out": ["www.example.com", "api.example.com"], **ALL})
        self.put(trusting, sandbox, allow=["GET api.example.com/v1/*"])
        attempt(sandbox, "ask", "8.8.8.8", "www.example.com")
        mark = world.mark()
        said = talk(
            sandbox,
            [request("www.example.com", "GET /a HTTP/1.1"), None, request("api.example.com", "POST /evil HTTP/1.1"), None],
            [request("api.example.com", "BREW /evil HTTP/1.1"), None],
            [0.6, request("api.example.com"), None],
            [request("api.example.com", "GET /v1/x HTTP/1.1"), None, request("api.example.com"), None],
        )
        assert said == [["200", "421"], ["403"], ["403"], ["200", "403"]]
        assert [seen["path"] for seen in world.seen(mark, what="http")] == ["/a", "/v1/x"]

    def test_they_outlive_an_update_of_the_network(self, trusting, sandboxes):
        sandbox = sandboxes(on=trusting)
        self.put(trusting, sandbox, allow=["GET api.example.com/v1/*"])
        sandbox.update_network({})
        assert self.status(sandbox, "https://api.example.com/v2") == "403"
        self.put(trusting, sandbox)
        assert self.status(sandbox, "http://api.example.com/v2") == "200"

    def test_how_many(self, trusting, sandboxes):
        sandbox = sandboxes(on=trusting)
        self.put(trusting, sandbox, perMinute={"*.example.com": 3})
        found = [self.status(sandbox, "http://api.example.com/") for _ in range(4)]
        assert found == ["200", "200", "200", "429"]
        [denied] = events(trusting, sandbox, decision="denied")
        assert (denied["rule"], denied["name"]) == ("perMinute *.example.com", "api.example.com")
        assert "3 times a minute" in denied["reason"] and denied["reason"] in run(sandbox, "cat /tmp/answer")[1]
        assert denied["reason"] in trusting.run("sandbox", "logs", sandbox.sandbox_id).stdout

    def test_by_our_own_command(self, trusting, sandboxes):
        sandbox = sandboxes(on=trusting)
        trusting.run("sandbox", "requests", sandbox.sandbox_id, "--allow", "GET api.example.com/v1/*", "--per-minute", "www.example.com=1")
        urls = ["https://api.example.com/v1/x", "https://api.example.com/v2", "http://www.example.com/", "http://www.example.com/"]
        assert [self.status(sandbox, url) for url in urls] == ["200", "403", "200", "429"]
        trusting.run("sandbox", "requests", sandbox.sandbox_id, "--clear")
        assert [self.status(sandbox, url.replace("https:", "http:")) for url in urls] == ["200"] * 4

    def test_bad_ones(self, trusting, sandboxes):
        sandbox = sandboxes(on=trusting)
        assert "METHOD host/path" in self.put(trusting, sandbox, code=400, allow=["anything"])
        assert "perMinute" in self.put(trusting, sandbox, code=400, perMinute={"a.b": 0})
