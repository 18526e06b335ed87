"""TLS on the listener: a domain and an authority are all that a client needs."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import e2b
import httpx
import pytest

from harness import own
from harness.names import Names
from harness.server import own_environment

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server():
    with own.lent("--tls-local") as server:
        yield server


@pytest.fixture(scope="module")
def trust(server):
    return server.environment()["SSL_CERT_FILE"]


def handshake(server, trust, name, protocols):
    context = ssl.create_default_context(cafile=trust)
    context.set_alpn_protocols(protocols)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname=name) as stream:
            return stream.version(), stream.selected_alpn_protocol()


@pytest.mark.parametrize("name", ["localhost", "api.localhost", "49983-iabc.localhost", "8080-i0123456789abcdefghij.localhost"])
def test_the_certificate_covers_the_domain_and_all_sandboxes(server, trust, name):
    version, protocol = handshake(server, trust, name, ["h2", "http/1.1"])
    assert version == "TLSv1.3" and protocol == "h2"


def test_http_1_1_is_chosen_when_asked_for(server, trust):
    assert handshake(server, trust, "localhost", ["http/1.1"])[1] == "http/1.1"
    assert handshake(server, trust, "localhost", [])[1] is None


def test_other_names_are_not_covered(server, trust):
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, trust, "example.com", ["h2"])


def test_old_protocols_are_refused(server, trust):
    context = ssl.create_default_context(cafile=trust)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        with pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(raw, server_hostname="localhost")


def test_the_key_of_the_authority_is_for_root_alone(server):
    keys = [f for f in (server.data_dir / "tls").rglob("*") if f.is_file() and "PRIVATE KEY" in f.read_text(errors="replace")]
    assert keys
    assert all(f.stat().st_mode & 0o077 == 0 for f in keys)


def test_two_protocols_one_api(server, trust):
    variables = server.environment()
    assert variables["E2B_API_URL"].startswith("https://")
    for http2, version in ((True, "HTTP/2"), (False, "HTTP/1.1")):
        with httpx.Client(http2=http2, verify=ssl.create_default_context(cafile=trust)) as client:
            answer = client.get(variables["E2B_API_URL"] + "/sandboxes", headers={"X-API-Key": variables["E2B_API_KEY"]})
            assert (answer.status_code, answer.http_version) == (200, version)


def test_many_streams_on_one_connection(server, trust):
    """HTTP/2 carries requests for several sandboxes at once; each gets its own answer."""
    boxes = [server.create() for _ in range(2)]
    try:
        for number, box in enumerate(boxes):
            box.files.write("who", str(number))
        async def ask():
            limits = httpx.Limits(max_connections=1)
            context = ssl.create_default_context(cafile=trust)
            async with httpx.AsyncClient(http2=True, verify=context, limits=limits, timeout=30) as client:
                requests = []
                for _ in range(20):
                    for box in boxes:
                        headers = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49983", "X-Access-Token": box._envd_access_token}
                        requests.append(client.get(f"https://localhost:{server.port}/files?path=who", headers=headers))
                return await asyncio.gather(*requests)

        answers = asyncio.run(ask())
        assert {a.http_version for a in answers} == {"HTTP/2"}
        assert [a.text for a in answers] == ["0", "1"] * 20
    finally:
        for box in boxes:
            e2b.Sandbox.kill(box.sandbox_id, **server.client())


@pytest.fixture(scope="module")
def names():
    names = Names("localhost")
    yield names
    names.close()


CLIENTS = {
    "python latest": lambda: [os.environ["SOULBOX_TEST_PYTHON"], str(HERE / "tls_client.py")],
    "python 2.45.1": lambda: [os.environ["SOULBOX_TEST_PYTHON_PINNED"], str(HERE / "tls_client.py")],
    "node latest": lambda: [os.environ["SOULBOX_TEST_NODE"], str(HERE.parent / "sdk/node/tls_client.mjs")],
}


@pytest.mark.parametrize("client", CLIENTS)
def test_an_sdk_that_knows_only_the_domain(server, names, client, tmp_path):
    """The way of every custom domain: `https://api.<domain>`, `https://49983-<id>.<domain>`."""
    try:
        command = CLIENTS[client]()
    except KeyError as missing:
        pytest.skip(f"{missing} is not set: the runner installs this client for other suites")
    variables = server.environment()
    wanted = ("E2B_DOMAIN", "E2B_API_KEY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
    environment = {**own_environment(), **{name: variables[name] for name in wanted}}
    done = subprocess.run(
        names.seen_by([*command, "host"], tmp_path / "resolv.conf"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=own.work(),
    )
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stdout + done.stderr


def test_the_authority_stays_the_same_over_restarts(server, trust):
    before = (server.data_dir / "tls").rglob("ca.pem").__next__().read_bytes()
    server.stop()
    server.start()
    assert (server.data_dir / "tls").rglob("ca.pem").__next__().read_bytes() == before
    handshake(server, trust, "localhost", ["h2"])


def test_a_certificate_of_ones_own(tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate of this test")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=box.test",
         "-addext", "subjectAltName=DNS:box.test,DNS:*.box.test", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    with own.lent("--tls-cert", str(certificate), "--tls-key", str(key), "--domain", "box.test") as server:
        assert handshake(server, str(certificate), "80-iabc.box.test", ["h2"])[1] == "h2"
        assert json.dumps(server.environment()).count("box.test") >= 1


def test_a_bad_certificate_is_one_sentence(tmp_path):
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    server = own.make()
    done = subprocess.run(
        [server.binary, "serve", "--no-base", "--data-dir", str(server.data_dir), "--listen", server.listen,
         "--tls-cert", str(rubbish), "--tls-key", str(rubbish)],
        capture_output=True, text=True, timeout=30, env=own_environment(),
    )
    own.unmount(server.data_dir)
    assert done.returncode not in (0, None)
    assert str(rubbish) in done.stderr and "panicked" not in done.stderr
