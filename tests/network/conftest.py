"""Sandboxes of a server that stands between them and a world of the tests' own (see `world.py`)."""

import json
import os
import urllib.request
from pathlib import Path

import e2b
import pytest

from harness import own
from world import WORLD, World, leave_the_machine

INSIDE = Path(__file__).with_name("inside.py").read_text()
VALUE = "sk-live-3f9a81c27d5e"


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("the network tests make network namespaces and need root", returncode=2)
    leave_the_machine()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.end()


@pytest.fixture(autouse=True)
def the_usual_names(world):
    world.set_names()


def serve(*arguments):
    return own.lent("--egress-dns", WORLD, *arguments)


@pytest.fixture(scope="session")
def server(world):
    """One whose operator opened nothing."""
    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def trusting(world):
    """A server whose machine trusts the authority of the world, with a secret."""
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(world.authority.certificate)
    try:
        with serve() as server:
            server.run("secret", "set", "key", input=VALUE)
            server.run("secret", "set", "bound", "--host", "other.org", input="bound-to-other")
            yield server
    finally:
        os.environ.pop("SSL_CERT_FILE")
        if before is not None:
            os.environ["SSL_CERT_FILE"] = before


@pytest.fixture
def sandboxes(server):
    """Makes sandboxes that end with the test."""
    made = []

    def make(on=server, **options):
        made.append(furnished(on.create(**options)))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.kill()


@pytest.fixture(scope="module")
def opened(server):
    """A sandbox without rules, for tests that only look."""
    sandbox = furnished(server.create())
    yield sandbox
    sandbox.kill()


def furnished(sandbox):
    sandbox.files.write("/tmp/inside.py", INSIDE)
    return sandbox


def attempts(sandbox, *lines):
    """What came of each attempt, all by one process inside; each is a function of `inside.py` and its arguments."""
    text = json.dumps([[str(word) for word in line] for line in lines])
    return json.loads(sandbox.commands.run(f"python3 /tmp/inside.py '{text}'", timeout=120).stdout)


def attempt(sandbox, *line):
    [found] = attempts(sandbox, line)
    return found


def run(sandbox, command, user="user", **options):
    """What a command that may fail said: exit code, and all of its output."""
    try:
        done = sandbox.commands.run(command, user=user, **options)
    except e2b.CommandExitException as error:
        done = error
    return done.exit_code, done.stdout + done.stderr


def refused(found):
    """Whether an attempt was answered with a refusal of whatever kind, and at once."""
    quick = found["seconds"] < 3
    return quick and (found.get("status") in (None, 403)) and not found.get("found") and "said" not in found


def site(found):
    """Which address of the world an HTTP attempt ended at."""
    assert found.get("status") == 200, found
    return json.loads(found["body"])["to"]


def fetch(sandbox, url, *options):
    return run(sandbox, " ".join(["curl -sS -m 10", *options, url]))


def last_request(world, mark):
    [request] = world.seen(mark, what="http")
    return request


def call(server, sandbox, path, method="GET", body=None):
    request = urllib.request.Request(
        f"{server.url}/soulbox/v1/sandboxes/{sandbox.sandbox_id}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"X-API-Key": server.environment()["E2B_API_KEY"], "Content-Type": "application/json"},
    )
    return urllib.request.urlopen(request, timeout=20)


def events(server, sandbox, **like):
    lines = call(server, sandbox, "network/events").read().decode().splitlines()
    found = [json.loads(line) for line in lines]
    return [event for event in found if all(event.get(key) == value for key, value in like.items())]
