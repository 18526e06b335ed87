"""The checks, in the order in which they run."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20


class Skip(Exception):
    """What the check asks about is not there on this machine."""


class World:
    """The server and shorthands for what clients do with it."""

    def __init__(self, server):
        self.server = server
        self.key = None

    def start(self, *arguments):
        self.server.start(*arguments, ready_within=180)
        self.key = self.server.environment()["E2B_API_KEY"]

    def ask(self, method, path, body=None, headers=None, timeout=60):
        """One request to the API; returns the status and the decoded body."""
        request = urllib.request.Request(self.server.url + path, method=method)
        request.add_header("X-API-Key", self.key)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        try:
            return status, json.loads(text or b"null")
        except ValueError:
            return status, text.decode(errors="replace")

    def create(self, timeout=900, **fields):
        status, made = self.ask("POST", "/sandboxes", {"templateID": "host", "timeout": timeout, **fields}, timeout=180)
        assert status == 201, (status, made)
        return made["sandboxID"]

    def kill(self, sandbox):
        status, said = self.ask("DELETE", f"/sandboxes/{sandbox}", timeout=180)
        assert status == 204, (status, said)

    def info(self, sandbox):
        status, said = self.ask("GET", f"/sandboxes/{sandbox}")
        assert status == 200, (status, said)
        return said

    def run(self, sandbox, script, user="root", timeout=300, code=0):
        """A shell command inside; returns what it printed, errors included."""
        command = ["sandbox", "exec", "--user", user, "--timeout", f"{timeout}s", sandbox, "--", "sh", "-c", f"exec 2>&1; {script}"]
        done = self.server.run(*command, code=None, timeout=timeout + 60)
        if code is not None:
            assert done.returncode == code, f"{script}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def python(self, sandbox, program, user="root", timeout=300):
        command = ["sandbox", "exec", "--user", user, "--timeout", f"{timeout}s", sandbox, "--", "python3", "-c", program]
        done = self.server.run(*command, code=None, timeout=timeout + 60)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def group(self, sandbox):
        """The sandbox's cgroup, found by a process of it."""
        mark = str(time.monotonic_ns())
        self.run(sandbox, f"nohup sleep 600.{mark} >/dev/null 2>&1 &")
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"sleep\0600.{mark}".encode() in (entry / "cmdline").read_bytes():
                    path = (entry / "cgroup").read_text().strip().removeprefix("0::")
                    return GROUPS / path.lstrip("/")
            except OSError:
                continue
        raise AssertionError("no process of the sandbox is seen")


def until(condition, within, why):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, why() if callable(why) else why
        time.sleep(0.2)


def doctor(world):
    """The doctor finds what the engine needs"""
    done = world.server.run("doctor", "--json", code=None, timeout=180)
    said = json.loads(done.stdout)
    checks = said["checks"] if isinstance(said, dict) else said
    print(json.dumps(checks, indent=1))
    missing = [c for c in checks if c["status"] == "missing"]
    assert not missing, missing
    return {c["name"]: f"{c['status']}: {c['detail']}" for c in checks}


def start(world):
    """The server starts and says what it works with"""
    world.start()
    lines = world.server.log.read_text().splitlines()
    ready = next(line for line in lines if "native engine ready" in line)
    assert "cgroups=2" in strip_colours(ready), ready
    warnings = [strip_colours(line) for line in lines if "WARN" in line]
    return {"ready": strip_colours(ready).split("native engine ready")[1].strip(), "warnings": warnings}


def strip_colours(text):
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def life(world):
    """A sandbox is made, runs commands as root and as user, and ends"""
    sandbox = world.create()
    assert world.run(sandbox, "id -u") == "0"
    assert world.run(sandbox, "id -un", user="user") == "user"
    assert world.run(sandbox, "exit 7", code=7) == ""
    world.kill(sandbox)


ALL = [doctor, start, life]
