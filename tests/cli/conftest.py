"""Runs command-line programs as a user would: arguments in, streams and exit code out."""

import os
import subprocess

import pytest

TEMPLATE = os.environ.get("SOULBOX_TEST_TEMPLATE", "base")


@pytest.fixture(scope="session")
def template():
    return TEMPLATE


@pytest.fixture(scope="session")
def e2b():
    """`@e2b/cli`, as npm installs it."""
    node, script = os.environ["SOULBOX_TEST_NODE"], os.environ["SOULBOX_TEST_E2B_CLI"]
    environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1"}
    return Program([node, script], environment)


@pytest.fixture(scope="session")
def soulbox():
    """Our own binary, pointed at the running server by its data directory."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")}
    return Program([os.environ["SOULBOX_BIN"], "--data-dir", os.environ["SOULBOX_DATA_DIR"]], environment)


class Program:
    def __init__(self, command, environment):
        self.command, self.environment = command, environment

    def __call__(self, *arguments, stdin="", code=0, timeout=60):
        done = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if code is not None:
            assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done
