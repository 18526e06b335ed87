"""Private ports and masked hosts, as the package offers them."""

import json

import e2b
import pytest

from flavours import eventually
from test_ports import fetch

HEADER = "e2b-traffic-access-token"
PORT = 8000

PROGRAM = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({k.lower(): v for k, v in self.headers.items()} | {"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


async def serving(sdk, server, headers=None, **network):
    sandbox = await sdk.create(timeout=300, network=network)
    await sandbox.files.write("app.py", PROGRAM)
    await sandbox.commands.run(f"exec python3 app.py {PORT}", background=True, timeout=0)

    async def ready():
        sent = {HEADER: sandbox.traffic_access_token} if sandbox.traffic_access_token else {}
        return (await fetch(server, sandbox.get_host(PORT), headers=sent)).status_code == 200

    await eventually(ready, within=20)
    return sandbox


async def test_a_private_port_needs_its_token(sdk, server):
    sandbox = await serving(sdk, server, allow_public_traffic=False)
    token, host = sandbox.traffic_access_token, sandbox.get_host(PORT)
    assert token
    for headers, word in [({}, "missing"), ({HEADER: "wrong"}, "invalid"), ({HEADER: token[:-1]}, "invalid")]:
        answer = await fetch(server, host, headers=headers)
        assert answer.status_code == 403 and word in answer.json()["message"], headers
    seen = (await fetch(server, host, "/x?y=1", headers={HEADER: token})).json()
    assert seen["path"] == "/x?y=1" and HEADER not in seen
    # Commands and files go on, and whoever connects is given the same token.
    assert (await sandbox.commands.run("echo in")).stdout == "in\n"
    again = await sdk.connect(sandbox.sandbox_id)
    assert again.traffic_access_token == token


async def test_a_public_port_has_no_token(sdk, server):
    sandbox = await serving(sdk, server)
    assert not sandbox.traffic_access_token
    assert (await fetch(server, sandbox.get_host(PORT))).status_code == 200


async def test_private_ports_need_a_secure_sandbox(sdk):
    if sdk.version >= (2, 52):
        pytest.skip("this version secures every sandbox")
    with pytest.raises(e2b.SandboxException, match="network.allowPublicTraffic"):
        await sdk.create(secure=False, network={"allow_public_traffic": False})


async def test_the_host_is_masked(sdk, server):
    sandbox = await serving(sdk, server, mask_request_host="localhost:${PORT}")
    host = sandbox.get_host(PORT)
    seen = (await fetch(server, host)).json()
    assert (seen["host"], seen["x-forwarded-host"]) == (f"localhost:{PORT}", host)
    for bad in ("a b", "http://x", "a\nb"):
        with pytest.raises(e2b.SandboxException, match="network.maskRequestHost"):
            await sdk.create(network={"mask_request_host": bad})


async def test_the_rules_survive_an_update_of_egress(sdk, server):
    sandbox = await serving(sdk, server, allow_public_traffic=False)
    if not hasattr(sandbox, "update_network"):
        pytest.skip("this version can't update the network")
    await sandbox.update_network({"deny_out": ["10.0.0.0/8"]})
    host = sandbox.get_host(PORT)
    assert (await fetch(server, host)).status_code == 403
    seen = await fetch(server, host, headers={HEADER: sandbox.traffic_access_token})
    assert json.loads(seen.text)["path"] == "/"


@pytest.mark.base
async def test_a_program_that_speaks_tls_itself(sdk, server):
    if sdk.version < (2, 50):
        pytest.skip("this version has no https_ports")
    sandbox = await sdk.create(network={"https_ports": [8443]})
    assert (await sandbox.get_info()).network["https_ports"] == [8443]
    closed = await fetch(server, sandbox.get_host(8443))
    assert closed.status_code == 502 and "port is not open" in closed.json()["message"]
    await sandbox.commands.run("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=inside -keyout key.pem -out cert.pem 2>/dev/null")
    lines = [
        "import http.server, ssl",
        "tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)",
        "tls.load_cert_chain('cert.pem', 'key.pem')",
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 8443), http.server.SimpleHTTPRequestHandler)",
        "server.socket = tls.wrap_socket(server.socket, server_side=True)",
        "server.serve_forever()",
    ]
    await sandbox.files.write("serve.py", "\n".join(lines))
    await sandbox.commands.run("exec python3 serve.py", background=True, timeout=0)

    async def answered():
        answer = await fetch(server, sandbox.get_host(8443), "/serve.py")
        return answer.status_code == 200 and answer

    assert (await eventually(answered, within=20)).text.splitlines() == lines
    for ports in ([0], [70_000], [49983]):
        with pytest.raises(e2b.SandboxException) as error:
            await sdk.create(network={"https_ports": ports})
        assert "httpsPorts" in str(error.value)
