"""Sandboxes of each built-in template, one for all tests that only use it."""

import os

import e2b
import pytest


def sandbox_of(template):
    sandbox = e2b.Sandbox.create(template=template, timeout=600)
    try:
        yield sandbox
    finally:
        sandbox.kill()


@pytest.fixture(scope="session")
def base():
    if os.environ.get("SOULBOX_TEST_TEMPLATE", "base") != "base":
        pytest.skip("runs without the base template")
    yield from sandbox_of("base")


@pytest.fixture(scope="session")
def host():
    yield from sandbox_of("host")


@pytest.fixture
def run():
    """Standard output of a command that must succeed and say nothing on standard error."""

    def run(sandbox, command, user="user", stderr="", **options):
        done = sandbox.commands.run(command, user=user, **options)
        assert stderr is None or done.stderr == stderr, done.stderr
        return done.stdout.strip()

    return run
