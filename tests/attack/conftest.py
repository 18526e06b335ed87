"""Runs the attack battery of the binary once, against the server of the suite; each of its lines is a test."""

import json
import os
import subprocess
from functools import cache

import pytest

from harness.server import own_environment

# What `soulbox doctor --attack` may end with after a full run: all held, or not all.
COMPLETE = (0, 6)
# How many times as long as on real processors it may take.
PATIENCE = int(os.environ.get("SOULBOX_TEST_PATIENCE", "1"))


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("the attacks are looked at from the host's side too and need root", returncode=2)


def pytest_generate_tests(metafunc):
    if "line" in metafunc.fixturenames:
        lines = battery()
        metafunc.parametrize("line", lines, ids=[line["id"] for line in lines])


@cache
def battery():
    """What came of each attack."""
    command = [os.environ["SOULBOX_BIN"], "doctor", "--attack", "--json", "--data-dir", os.environ["SOULBOX_DATA_DIR"]]
    if template := os.environ.get("SOULBOX_TEST_TEMPLATE"):
        command += ["--template", template]
    done = subprocess.run(command, capture_output=True, text=True, env=own_environment(), timeout=600 * PATIENCE)
    if done.returncode not in COMPLETE:
        pytest.exit(f"the battery ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}", returncode=1)
    return [json.loads(line) for line in done.stdout.splitlines()]
