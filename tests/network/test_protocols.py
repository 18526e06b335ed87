"""WebSocket and HTTP/2 hosts with header rules and placeholders: real servers, published clients inside."""

import io
import json
import zipfile
from pathlib import Path

import h2
import hpack
import hyperframe
import pytest
import websockets
from conftest import VALUE, fetch, furnished, run
from test_flows import until
from world import OTHER, WEB_SOCKET

RULE = [{"transform": {"headers": {"Authorization": "Bearer ${e2b.secrets.key}"}}}]
MASK = "*" * len(VALUE)


def package(*modules):
    """Packages of Python alone, as an archive that `PYTHONPATH` may name."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for root in (Path(module.__file__).parent for module in modules):
            for file in root.rglob("*.py"):
                files.write(file, file.relative_to(root.parent))
    return archive.getvalue()


@pytest.fixture(scope="module")
def keyed(trusting):
    trusting.run("secret", "set", "mine", "--host", "*.example.com", input=VALUE[::-1])
    network = {"rules": {name: RULE for name in ("ws.example.com", "h2.example.com", "api.example.com")}}
    sandbox = furnished(trusting.create(network=network, envs={"KEY": "${placeholder:mine}"}, headers={"SoulBox-Env-Secrets": "resolve"}))
    sandbox.files.write("/tmp/websockets.zip", package(websockets))
    yield sandbox
    sandbox.kill()


class TestWebSocket:
    def talk(self, sandbox, script, **options):
        """Runs the body of a client that has a connection `ws` to the host."""
        lines = "\n".join("    " + line for line in script.strip().splitlines())
        program = "import json, os\nfrom websockets.sync.client import connect\n"
        program += "with connect(f'wss://ws.example.com/chat?key={os.environ[\"KEY\"]}', subprotocols=['chat'], max_size=1 << 24) as ws:\n"
        sandbox.files.write("/tmp/talk.py", f"{program}{lines}\n")
        return sandbox.commands.run("PYTHONPATH=/tmp/websockets.zip python3 -u /tmp/talk.py", timeout=30, **options)

    def test_the_handshake_gets_the_values_and_messages_pass(self, keyed, world):
        mark = world.mark()
        done = self.talk(
            keyed,
            """
print(ws.recv())
big = os.urandom(1 << 20)
for message in ["é", big, "x" * 70000, ["part ", "by ", "part"]]:
    ws.send(message)
    assert ws.recv() == ("".join(message) if isinstance(message, list) else message)
assert ws.ping().wait(5)
print(ws.subprotocol, [type(e).__name__ for e in ws.protocol.extensions])
""",
        )
        first, last = done.stdout.splitlines()
        # Beyond the handshake nothing is searched, which docs/network.md says.
        assert json.loads(first) == {"path": f"/chat?key={VALUE[::-1]}", "authorization": f"Bearer {VALUE}"}
        assert last == "chat ['PerMessageDeflate']"
        [seen] = world.seen(mark, what="websocket")
        assert seen["headers"]["authorization"] == f"Bearer {VALUE}" and seen["headers"]["host"] == "ws.example.com"

    def test_the_host_says_how_it_ends(self, keyed):
        script = """
ws.recv()
ws.send("close")
try:
    ws.recv()
except Exception as error:
    print(error.rcvd.code, error.rcvd.reason)
"""
        assert self.talk(keyed, script).stdout == "4321 as you wish\n"

    @pytest.mark.parametrize("change", [{"allow_internet_access": False}, {"rules": {"ws.example.com": RULE}, "deny_out": [WEB_SOCKET]}], ids=["all", "address"])
    def test_a_change_of_the_rules_cuts_it(self, trusting, keyed, world, change):
        """Also where the sandbox calls another address, which stays allowed."""
        sandbox = furnished(trusting.create(network={"rules": {"ws.example.com": RULE}}, envs={"KEY": "none"}))
        try:
            sandbox.files.write("/tmp/websockets.zip", package(websockets))
            run(sandbox, f"echo {OTHER} ws.example.com >> /etc/hosts", user="root")
            mark = world.mark()
            script = "ws.recv()\nprint('open')\ntry:\n    print(ws.recv())\nexcept Exception as error:\n    print('cut', error.rcvd)"
            client = self.talk(sandbox, script, background=True)
            said = (stdout.strip() for stdout, _, _ in client if stdout and stdout.strip())
            assert next(said) == "open"
            sandbox.update_network(change)
            assert client.wait().stdout == "open\ncut None\n"
            until(lambda: len(world.seen(mark, what="websocket over")) == 1)
        finally:
            sandbox.kill()

    def test_no_ticket_comes_amid_the_first_request(self, keyed):
        """Clients in Python that read in another thread lose it then, about one in 700."""
        code, said = run(keyed, "sleep 0.5 | openssl s_client -connect ws.example.com:443 -servername ws.example.com")
        assert code == 0 and "SoulBox egress" in said and "TLSv1.3" in said, said
        assert "New Session Ticket" not in said

    def test_the_first_request_waits_for_no_delayed_acknowledgement(self, keyed):
        """Of the client's last word in the handshake, on which Nagle's algorithm would wait for 40 ms."""
        program = """
import socket, ssl, time
context, taken = ssl.create_default_context(), []
for _ in range(10):
    began = time.monotonic()
    with context.wrap_socket(socket.create_connection(("api.example.com", 443)), server_hostname="api.example.com") as stream:
        stream.sendall(b"GET / HTTP/1.1\\r\\nHost: api.example.com\\r\\n\\r\\n")
        assert stream.recv(4096).startswith(b"HTTP/1.1 200 ")
    taken.append(time.monotonic() - began)
print(min(taken) * 1000)
"""
        keyed.files.write("/tmp/first.py", program)
        assert float(keyed.commands.run("python3 /tmp/first.py").stdout) < 30

    def test_no_other_protocol_leads_out_of_http(self, keyed, world):
        mark = world.mark()
        code, said = fetch(keyed, "https://api.example.com/", "--http1.1", "-H 'Connection: Upgrade'", "-H 'Upgrade: raw'")
        assert code == 0, said
        [seen] = world.seen(mark, what="http")
        assert "upgrade" not in seen["headers"]


class TestHttp2:
    def test_requests_get_their_headers_and_answers_are_searched(self, keyed, world):
        mark = world.mark()
        code, said = fetch(keyed, '"https://h2.example.com/a?b=1&key=$KEY"', "--http2 -i", "-H 'Authorization: mine'", "--data-binary @/usr/bin/env")
        assert code == 0, said
        [connection] = world.seen(mark, what="http2 connection")
        assert connection["protocol"] == "h2"
        [seen] = world.seen(mark, what="http2")
        headers = seen["headers"]
        assert headers["authorization"] == f"Bearer {VALUE}"
        assert headers[":path"] == f"/a?b=1&key={VALUE[::-1]}"
        assert (headers[":authority"], headers[":scheme"], headers[":method"]) == ("h2.example.com", "https", "POST")
        assert seen["length"] == int(run(keyed, "stat -L -c %s /usr/bin/env")[1])
        assert VALUE not in said and VALUE[::-1] not in said
        fields = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line and not line.startswith("{"))
        assert fields["x-echo"] == fields["x-trailer"] == f"Bearer {MASK}"

    def test_a_value_that_frames_cut_is_masked(self, keyed):
        code, _ = fetch(keyed, "https://h2.example.com/cut", "--http2 -o /tmp/cut")
        assert code == 0
        assert keyed.files.read("/tmp/cut") == ("." * 1000 + f"Bearer {MASK}") * 200

    def test_requests_share_a_connection(self, keyed, world):
        mark = world.mark()
        urls = " ".join(f"-o /dev/null https://h2.example.com/{n}" for n in range(20))
        code, said = fetch(keyed, urls, "--http2 -Z --parallel-max 20 --no-progress-meter", "-w '%{http_code} '")
        assert (code, said.split()) == (0, ["200"] * 20)
        assert {seen["headers"][":path"] for seen in world.seen(mark, what="http2")} == {f"/{n}" for n in range(20)}
        assert {seen["headers"]["authorization"] for seen in world.seen(mark, what="http2")} == {f"Bearer {VALUE}"}
        # Those that came before it was known to be shared may have one of their own.
        assert len(world.seen(mark, what="http2 connection")) <= 2

    @pytest.mark.parametrize("version", ["--http1.1", "--http2"])
    def test_headers_that_are_too_long_are_told(self, keyed, world, version):
        mark = world.mark()
        # No longer than curl sends over HTTP/2, and more than the server reads.
        keyed.files.write("/tmp/long", "".join(f"X-{n}: {'a' * 95}\n" for n in range(550)))
        code, said = fetch(keyed, "https://h2.example.com/", version, "-H @/tmp/long", "-o /dev/null -w '%{http_code}'")
        assert (code, said) == (0, "431")
        assert world.seen(mark, what="http2") == []

    @pytest.mark.parametrize("path", ["away", "reset"])
    def test_a_host_that_breaks_off_is_told_and_asked_again(self, keyed, path):
        urls = f"https://h2.example.com/{path} -o /dev/null https://h2.example.com/well -o /dev/null"
        code, said = fetch(keyed, urls, "--http2", "-w '%{http_code} '")
        assert said.split() == ["502", "200"], said

    @pytest.mark.parametrize("host, event", [("h2.example.com", "http2 reset"), ("api.example.com", "closed")])
    def test_a_request_that_the_client_gave_up_is_given_up(self, keyed, world, host, event):
        keyed.files.write("/tmp/h2.zip", package(h2, hpack, hyperframe))
        keyed.files.write("/tmp/give_up.py", GIVE_UP)
        mark = world.mark()
        client = keyed.commands.run(f"PYTHONPATH=/tmp/h2.zip python3 /tmp/give_up.py {host}", background=True, timeout=30)
        try:
            assert next(stdout.strip() for stdout, _, _ in client if stdout) == "200"
            until(lambda: len(world.seen(mark, what=event)) >= 20)
        finally:
            client.kill()


# Asks for twenty answers that never come, gives them up, asks for one that does, and keeps its connection.
GIVE_UP = """
import h2.config, h2.connection, h2.errors, h2.events, os, socket, ssl, sys, time
context = ssl.create_default_context()
context.set_alpn_protocols(["h2"])
stream = context.wrap_socket(socket.create_connection((sys.argv[1], 443)), server_hostname=sys.argv[1])
state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
state.initiate_connection()
def ask(path):
    number = state.get_next_available_stream_id()
    names = {":method": "GET", ":scheme": "https", ":authority": sys.argv[1], ":path": path}
    state.send_headers(number, list(names.items()), end_stream=True)
    stream.sendall(state.data_to_send())
    return number
given_up = [ask("/never") for _ in range(20)]
time.sleep(1)
for number in given_up: state.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
last, status = ask("/"), None
while not status:
    for event in state.receive_data(stream.recv(65536)):
        if isinstance(event, h2.events.ResponseReceived) and event.stream_id == last:
            status = dict(event.headers)[":status"]
    stream.sendall(state.data_to_send())
print(status, flush=True)
time.sleep(30)
"""
