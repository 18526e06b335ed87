"""Older published clients, each run in a process of its own against one server."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness import own
from harness.names import Names
from harness.server import own_environment

HERE = Path(__file__).parent
BY_DOMAIN = ("E2B_DOMAIN", "E2B_API_KEY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
BY_ADDRESS = (*BY_DOMAIN, "E2B_API_URL", "E2B_SANDBOX_URL")
PYTHON = json.loads(os.environ.get("SOULBOX_TEST_PYTHON_VERSIONS", "{}"))
NODE = json.loads(os.environ.get("SOULBOX_TEST_NODE_VERSIONS", "{}"))


def number(version):
    return tuple(int(part) for part in version.split("."))


@pytest.fixture(scope="module")
def server():
    with own.lent("--tls-local") as server:
        yield server


@pytest.fixture(scope="module")
def names():
    names = Names("localhost")
    yield names
    names.close()


@pytest.fixture
def run(server, names, tmp_path):
    def run(command, variables):
        known = server.environment()
        done = subprocess.run(
            names.seen_by(command, tmp_path / "resolv.conf"),
            env={**own_environment(), **{name: known[name] for name in variables}},
            capture_output=True,
            text=True,
            timeout=60,
            cwd=own.work(),
        )
        assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stdout + done.stderr

    return run


@pytest.mark.parametrize("version", PYTHON)
def test_python(run, version):
    run([PYTHON[version], str(HERE / "client.py"), own.TEMPLATE], BY_DOMAIN)


# Older ones know no other address than the one they make of the domain.
@pytest.mark.parametrize("version", [version for version in PYTHON if number(version) >= (2, 10)])
def test_python_at_one_address(run, version):
    run([PYTHON[version], str(HERE / "client.py"), own.TEMPLATE], BY_ADDRESS)


@pytest.mark.parametrize("version", NODE)
def test_node(run, version):
    run([os.environ["SOULBOX_TEST_NODE"], str(HERE / "client.mjs"), NODE[version], own.TEMPLATE], BY_DOMAIN)


@pytest.mark.parametrize("version", [version for version in NODE if number(version) >= (2, 10)])
def test_node_at_one_address(run, version):
    run([os.environ["SOULBOX_TEST_NODE"], str(HERE / "client.mjs"), NODE[version], own.TEMPLATE], BY_ADDRESS)
