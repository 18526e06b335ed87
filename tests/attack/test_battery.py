"""The lines of the attack battery, and what the battery itself must do."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import battery
from harness.server import own_environment

GROUPS = {"resources", "kernel", "files", "agent", "identity", "reuse", "network"}


def test_line(line):
    """One attack: held, or skipped for a reason that it names."""
    if line["result"] == "skipped":
        pytest.skip(line["why"])
    assert line["result"] == "held", f"{line['title']}: {line['why']}"


def test_the_battery_is_whole():
    lines = battery()
    assert {line["group"] for line in lines} == GROUPS
    assert len({line["id"] for line in lines}) == len(lines)
    assert sum(line["result"] != "skipped" for line in lines) >= 90, "most attacks are carried out, not skipped"
    for line in lines:
        assert set(line) == {"id", "group", "title", "result", "why", "defence", "duration_ms"}
        assert line["why"] and line["title"] and line["defence"], line


@pytest.fixture
def nowhere(tmp_path):
    """A machine without a server, as far as the command can see."""
    (tmp_path / "tmp").mkdir()
    environment = {**own_environment(), "TMPDIR": str(tmp_path / "tmp")}
    command = [os.environ["SOULBOX_BIN"], "doctor", "--attack", "--data-dir", str(tmp_path / "none"), "--json"]
    return command, environment, tmp_path / "tmp"


def mounts_below(directory):
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {directory}/" in line]


def processes_of(directory):
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(directory) in (entry / "cmdline").read_bytes().decode(errors="replace"):
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_one_attack_on_a_temporary_server(nowhere):
    command, environment, directory = nowhere
    done = subprocess.run([*command, "--only", "kernel-clone3-user"], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    [line] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (line["id"], line["result"]) == ("kernel-clone3-user", "held")
    assert not list(directory.iterdir()) and not mounts_below(directory)


def test_an_attack_that_does_not_exist(nowhere):
    command, environment, _ = nowhere
    done = subprocess.run([*command, "--only", "kernel-no-such"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert "kernel-no-such" in json.loads(done.stderr)["error"]["message"]


def test_an_interrupt_cleans_up(nowhere):
    command, environment, directory = nowhere
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert json.loads(running.stdout.readline())["result"] == "held"
        assert mounts_below(directory), "a temporary server runs"
        running.send_signal(signal.SIGINT)
        started = time.monotonic()
        running.communicate(timeout=60)
        assert running.returncode == 130
        assert time.monotonic() - started < 45
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    assert not list(directory.iterdir()) and not mounts_below(directory) and not processes_of(directory)
