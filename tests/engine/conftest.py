"""Sandboxes as the host sees them. Runs as root on the machine of the server."""

import os
import uuid

import e2b
import pytest

from harness import host


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("the engine tests look at the host's side of a sandbox and need root", returncode=2)


def create(**options):
    template = os.environ.get("SOULBOX_TEST_TEMPLATE")
    if template:
        options.setdefault("template", template)
    options.setdefault("timeout", 900)
    return e2b.Sandbox.create(**options)


@pytest.fixture
def sandboxes():
    """Makes sandboxes that end with the test."""
    made = []

    def make(**options):
        made.append(create(**options))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.kill()


@pytest.fixture
def sandbox(sandboxes):
    return sandboxes()


@pytest.fixture(scope="module")
def shared():
    """One sandbox for tests that only look."""
    sandbox = create()
    yield sandbox
    sandbox.kill()


def output(sandbox, command, user="user", **options):
    """Standard output of a command that may fail."""
    try:
        return sandbox.commands.run(command, user=user, **options).stdout.strip()
    except e2b.CommandExitException as error:
        return (error.stdout + error.stderr).strip()


def python(sandbox, program, user="root", timeout=60):
    """Runs a Python program inside and returns what it prints."""
    name = f"/tmp/{uuid.uuid4().hex}.py"
    sandbox.files.write(name, program)
    return sandbox.commands.run(f"python3 {name}", user=user, timeout=timeout).stdout.strip()


def host_pid(sandbox, user="user"):
    """A process of the sandbox as the host numbers it."""
    mark = f"{uuid.uuid4().int % 10**8 + 10**8}"
    sandbox.commands.run(f"exec sleep {mark}", background=True, timeout=0, user=user)
    deadline = 50
    while not (found := [p for p in host.processes(f"sleep {mark}") if "bash" not in host.status(p)["Name"]]):
        deadline -= 1
        assert deadline, "the process is not visible on the host"
        import time

        time.sleep(0.1)
    return found[0]
