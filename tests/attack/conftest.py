"""Hostile code in real sandboxes, and a look at the host afterwards. Runs as root on the machine of the server."""

import hashlib
import os
import subprocess
import time
import uuid
from pathlib import Path

import e2b
import httpx
import pytest

from harness import host

WHO = ["root", "user"]

# What every hostile program starts with: `call(number, …)` is a system call and tells how it ended.
PRELUDE = """
import ctypes, errno, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def raw(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
def call(number, *arguments):
    result = raw(number, *arguments)
    code = ctypes.get_errno()
    return "allowed" if result >= 0 else errno.errorcode.get(code, str(code))
def attempt(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
"""


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("the attacks are looked at from the host's side too and need root", returncode=2)
    if os.uname().machine != "x86_64":
        pytest.exit("the numbers of system calls here are those of x86_64", returncode=2)


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


@pytest.fixture(scope="session")
def shared():
    """A sandbox for attacks that break nothing of their own."""
    sandbox = create()
    yield sandbox
    sandbox.kill()


@pytest.fixture(scope="session")
def neighbour():
    """A sandbox that is attacked and never attacks."""
    sandbox = create()
    yield sandbox
    sandbox.kill()


def output(sandbox, command, user="user", **options):
    """Standard output of a command that may fail."""
    try:
        return sandbox.commands.run(command, user=user, **options).stdout.strip()
    except e2b.CommandExitException as error:
        return (error.stdout + error.stderr).strip()


def attack(sandbox, program, user="root", timeout=30):
    """Runs a program after `PRELUDE` and returns what it prints."""
    name = f"/tmp/{uuid.uuid4().hex}.py"
    sandbox.files.write(name, PRELUDE + program)
    return sandbox.commands.run(f"python3 {name}", user=user, timeout=timeout).stdout.strip()


def start(sandbox, program, user="root"):
    """Starts a program after `PRELUDE`; the handle's `wait` returns what it printed."""
    name = f"/tmp/{uuid.uuid4().hex}.py"
    sandbox.files.write(name, PRELUDE + program)
    return sandbox.commands.run(f"exec python3 {name}", user=user, background=True, timeout=60)


def compiled(sandbox, source, directory):
    """Compiles C for the sandbox and returns where it lies there."""
    binary = Path(directory) / uuid.uuid4().hex
    done = subprocess.run(["gcc", "-static", "-O1", "-x", "c", "-o", binary, "-"], input=source, text=True, capture_output=True)
    if done.returncode:
        pytest.skip(f"no static C compiler here: {done.stderr[:200]}")
    name = f"/usr/bin/{binary.name}"
    sandbox.files.write(name, binary.read_bytes(), user="root")
    sandbox.commands.run(f"chmod 755 {name}", user="root")
    return name


def host_pid(sandbox, user="user"):
    """A process of the sandbox as the host numbers it."""
    mark = f"{uuid.uuid4().int % 10**8 + 10**8}"
    sandbox.commands.run(f"exec sleep {mark}", background=True, timeout=0, user=user)
    deadline = time.monotonic() + 5
    while not (found := [p for p in host.processes(f"sleep {mark}") if "bash" not in host.status(p)["Name"]]):
        assert time.monotonic() < deadline, "the process is not visible on the host"
        time.sleep(0.05)
    return found[0]


def agent_pid(sandbox):
    """The sandbox's PID 1 as the host numbers it."""
    namespace = os.readlink(f"/proc/{host_pid(sandbox)}/ns/pid")
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "ns/pid") == namespace and host.status(entry.name)["NSpid"].split()[-1] == "1":
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError("the sandbox has no PID 1")


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def is_well(sandbox):
    """Whether the sandbox still runs commands."""
    return output(sandbox, "echo well", timeout=20) == "well"


class Agent:
    """Plain requests to a sandbox's agent, as no SDK would make them."""

    def __init__(self, sandbox):
        self.sandbox, self.url = sandbox, os.environ["E2B_SANDBOX_URL"].rstrip("/")
        self.token = sandbox._envd_access_token
        self.headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}

    def __call__(self, method, path, token=True, timeout=20, **options):
        headers = {**self.headers, **({"X-Access-Token": self.token} if token else {}), **options.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=timeout, **options)
