"""The two command lines: E2B's and our own."""

import os

import pytest

from harness import program

TEMPLATE = os.environ.get("SOULBOX_TEST_TEMPLATE", "base")


@pytest.fixture(scope="session")
def template():
    return TEMPLATE


@pytest.fixture(scope="session")
def e2b():
    """`@e2b/cli`, as npm installs it."""
    node, script = os.environ["SOULBOX_TEST_NODE"], os.environ["SOULBOX_TEST_E2B_CLI"]
    environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1"}
    return program.Program([node, script], environment)


@pytest.fixture(scope="session")
def soulbox():
    return program.soulbox()
