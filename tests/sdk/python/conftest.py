"""Fixtures: a client of either flavour, and a fresh sandbox per test."""

import os

import pytest
import pytest_asyncio

from flavours import Sdk


def pytest_collection_modifyitems(items):
    if os.environ.get("SOULBOX_TEST_TEMPLATE", "base") != "base":
        for item in items:
            if "base" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs the base template"))


@pytest_asyncio.fixture(params=["sync", "async"])
async def sdk(request):
    sdk = Sdk(request.param, os.environ.get("SOULBOX_TEST_TEMPLATE"))
    yield sdk
    await sdk.clean_up()


@pytest_asyncio.fixture
async def sandbox(sdk):
    return await sdk.create(timeout=300)


@pytest.fixture(scope="session")
def server():
    """The address of the server's one listener, and the domain that sandboxes are named under."""
    return Server(os.environ["E2B_SANDBOX_URL"], os.environ["E2B_DOMAIN"])


class Server:
    def __init__(self, url, domain):
        self.url = url.rstrip("/")
        self.domain = domain
