"""The package's secrets, and what of them reaches a sandbox."""

import asyncio
import uuid

import e2b
import pytest

from flavours import threaded


class Secrets:
    """`Secret` or `AsyncSecret`; forgets what a test left."""

    def __init__(self, sync):
        self.sync, self.made = sync, []

    async def call(self, method, *args, **options):
        if self.sync:
            return threaded(await asyncio.to_thread(getattr(e2b.Secret, method), *args, **options))
        return await getattr(e2b.AsyncSecret, method)(*args, **options)

    async def create(self, name, value, **options):
        info = await self.call("create", name, value, **options)
        self.made.append(info.secret_id)
        return info

    def list(self, **options):
        return threaded(e2b.Secret.list(**options)) if self.sync else e2b.AsyncSecret.list(**options)

    async def clean_up(self):
        for secret_id in self.made:
            await self.call("destroy", secret_id)


@pytest.fixture
async def secrets(sdk):
    secrets = Secrets(sdk.sync)
    yield secrets
    await secrets.clean_up()


@pytest.fixture
def name():
    return f"test-{uuid.uuid4().hex[:12]}"


async def test_a_secret_lives(secrets, name):
    made = await secrets.create(name.upper(), "one", metadata={"for": "tests"})
    assert (made.name, made.version, made.metadata) == (name, 1, {"for": "tests"})
    assert made.secret_id.startswith("sec_")
    for which in (made.secret_id, name):
        assert (await secrets.call("get_info", which)) == made
    changed = await secrets.call("update", name, "two")
    assert (changed.version, changed.metadata, changed.created_at) == (2, {"for": "tests"}, made.created_at)
    assert await secrets.call("exists", name)
    assert await secrets.call("destroy", name) is True
    assert await secrets.call("destroy", name) is False
    assert not await secrets.call("exists", name)
    with pytest.raises(e2b.SecretNotFoundException):
        await secrets.call("update", name, "three")


async def test_pages(secrets, name):
    ids = {(await secrets.create(f"{name}-{n}", "x")).secret_id for n in range(5)}
    paginator, found, pages = secrets.list(limit=2), set(), 0
    while paginator.has_next:
        found |= {info.secret_id for info in await paginator.next_items()}
        pages += 1
    assert ids <= found and pages >= 3


async def test_what_is_refused(secrets, name):
    await secrets.create(name, "x")
    for bad in (name, "a b", "sec_x"):
        with pytest.raises(e2b.SecretException):
            await secrets.create(bad, "hunter2")
    with pytest.raises(e2b.SecretException) as refused:
        await secrets.create(name + "-big", "hunter2" * 10_000)
    assert "hunter2" not in str(refused.value)


async def test_a_dollar_in_envs_stays_a_dollar(sdk):
    envs = {"PLAIN": "$HOME $$ ${x} $", "PRICE": "5$"}
    sandbox = await sdk.create(envs=envs)
    done = await sandbox.commands.run('printf "%s|%s" "$PLAIN" "$PRICE"')
    assert done.stdout == "$HOME $$ ${x} $|5$"


async def test_envs_name_secrets_where_a_header_says_so(sdk, secrets, name):
    name = name.replace("-", "_")
    await secrets.create(name, "hunter2")
    resolve = {"SoulBox-Env-Secrets": "resolve"}
    sandbox = await sdk.create(envs={"A": f"${name}", "B": f"u:${{{name}}}@h", "C": "$$1"}, headers=resolve)
    assert (await sandbox.commands.run('printf "%s|%s|%s" "$A" "$B" "$C"')).stdout == "hunter2|u:hunter2@h|$1"
    with pytest.raises(e2b.SandboxException) as refused:
        await sdk.create(envs={"A": "$absent_secret"}, headers=resolve)
    assert "absent_secret" in str(refused.value) and "envVars.A" in str(refused.value)
