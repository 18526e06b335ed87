"""One scenario, two clients.

The package has a synchronous and an asynchronous `Sandbox` with the same methods. Scenarios are
written once, with `await`; for the synchronous client each call runs in a thread, so the code under
test is the unmodified package in both cases.
"""

import asyncio
import dataclasses
import enum
import inspect

import e2b

# Answered locally, without a request: plain functions in both clients.
LOCAL = {"get_host", "download_url", "upload_url", "get_mcp_url"}


class Threaded:
    """A synchronous object of the package, made awaitable."""

    def __init__(self, target):
        self._target = target

    def __getattr__(self, name):
        value = getattr(self._target, name)
        if name in LOCAL:
            return value
        if inspect.isroutine(value):

            async def call(*args, **kwargs):
                return threaded(await asyncio.to_thread(value, *args, **kwargs))

            return call
        return threaded(value)


def threaded(value):
    """Wraps what belongs to the package and has methods; data stays as it is."""
    plain = isinstance(value, (enum.Enum, BaseException)) or dataclasses.is_dataclass(value)
    if type(value).__module__.startswith("e2b.") and not plain and not hasattr(value, "__next__"):
        return Threaded(value)
    return value


class Sdk:
    """What a test creates sandboxes with; remembers them for the clean-up."""

    def __init__(self, flavour, template=None):
        self.flavour = flavour
        self.sync = flavour == "sync"
        self.version = tuple(int(part) for part in package_version().split(".")[:2])
        self._template = template
        self._made = []

    async def create(self, template=None, **options):
        template = template or self._template
        if template is not None:
            options["template"] = template
        sandbox = await self.call("create", **options)
        self._made.append(sandbox.sandbox_id)
        return sandbox

    async def connect(self, sandbox_id, **options):
        return await self.call("connect", sandbox_id, **options)

    def list(self, **options):
        """A paginator: local until its first page is asked for."""
        if self.sync:
            return Threaded(e2b.Sandbox.list(**options))
        return e2b.AsyncSandbox.list(**options)

    async def call(self, method, *args, **options):
        """A method of the class: `kill`, `get_info`, `set_timeout`, …"""
        if self.sync:
            return threaded(await asyncio.to_thread(getattr(e2b.Sandbox, method), *args, **options))
        return await getattr(e2b.AsyncSandbox, method)(*args, **options)

    async def clean_up(self):
        made, self._made = self._made, []
        for sandbox_id in made:
            await self.call("kill", sandbox_id)


def package_version():
    from importlib.metadata import version

    return version("e2b")


async def eventually(check, within=10.0, every=0.1):
    """Waits until `check` returns something true, and returns it."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        value = await check()
        if value:
            return value
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {check}"
        await asyncio.sleep(every)
