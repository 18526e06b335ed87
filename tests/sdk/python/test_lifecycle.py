"""Create, find, extend and end sandboxes."""

import asyncio
import datetime
import os
import time
import uuid

import e2b
import pytest

from flavours import eventually


def now():
    return datetime.datetime.now(datetime.timezone.utc)


async def all_pages(paginator):
    found = []
    while True:
        found += await paginator.next_items()
        if not paginator.has_next:
            return found


async def test_a_sandbox_lives_until_it_is_killed(sdk):
    sandbox = await sdk.create()
    assert sandbox.sandbox_id.isalnum() and sandbox.sandbox_id == sandbox.sandbox_id.lower()
    assert await sandbox.is_running()
    assert (await sandbox.commands.run("echo alive")).stdout == "alive\n"
    assert await sandbox.kill() is True
    assert await sandbox.is_running() is False
    assert await sandbox.kill() is False


async def test_info_says_what_was_asked_for(sdk):
    before = now()
    sandbox = await sdk.create(timeout=120, metadata={"purpose": "info"})
    info = await sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id
    assert info.state.value == "running"
    assert info.metadata == {"purpose": "info"}
    assert info.cpu_count >= 1 and info.memory_mb >= 128
    assert before - datetime.timedelta(seconds=1) <= info.started_at <= now()
    life = (info.end_at - info.started_at).total_seconds()
    assert 119 <= life <= 121


async def test_default_life_is_five_minutes_and_default_template_base(sdk):
    sandbox = await sdk.create()
    info = await sandbox.get_info()
    assert 299 <= (info.end_at - info.started_at).total_seconds() <= 301
    expected = os.environ.get("SOULBOX_TEST_TEMPLATE", "base")
    assert expected in (info.template_id, info.name)


@pytest.mark.base
@pytest.mark.parametrize("template", ["base", "base:default", "host"])
async def test_templates_are_found_by_name(sdk, template):
    sandbox = await sdk.create(template=template)
    info = await sandbox.get_info()
    assert template.split(":")[0] in (info.template_id, info.name)
    result = await sandbox.commands.run("whoami; echo $HOME")
    assert result.stdout == "user\n/home/user\n"


async def test_unknown_template_is_named_in_the_error(sdk):
    with pytest.raises(e2b.SandboxException) as error:
        await sdk.create(template="no-such-template")
    assert "no-such-template" in str(error.value)
    assert "404" in str(error.value)


async def test_wrong_key_is_an_authentication_error(sdk):
    wrong = "e2b_" + "0" * 40
    with pytest.raises(e2b.AuthenticationException):
        await sdk.create(api_key=wrong)
    with pytest.raises(e2b.AuthenticationException):
        await sdk.list(api_key=wrong).next_items()


@pytest.mark.parametrize("timeout", [-1, 1_000_000])
async def test_impossible_timeouts_are_refused(sdk, timeout):
    tag = uuid.uuid4().hex
    with pytest.raises(e2b.SandboxException) as error:
        await sdk.create(timeout=timeout, metadata={"tag": tag})
    assert "400" in str(error.value) or "imeout" in str(error.value)
    left = await sdk.list(query=e2b.SandboxQuery(metadata={"tag": tag})).next_items()
    assert left == [], "a refused create must leave nothing behind"


async def test_environment_of_the_sandbox(sdk):
    envs = {"PLAIN": "1", "SPACED": "a b  c", "QUOTED": "\"it's\"", "LINES": "one\ntwo", "EMPTY": "", "TEXT": "żółw 🐢"}
    sandbox = await sdk.create(envs=envs)
    for name, value in envs.items():
        assert (await sandbox.commands.run(f'printf %s "${name}"')).stdout == value, name
    assert (await sandbox.commands.run("echo ${EMPTY+set}")).stdout == "set\n"
    override = await sandbox.commands.run("echo $PLAIN $MORE", envs={"PLAIN": "2", "MORE": "3"})
    assert override.stdout == "2 3\n"
    assert (await sandbox.commands.run("echo $PLAIN")).stdout == "1\n"


async def test_a_sandbox_knows_its_own_name(sdk):
    sandbox = await sdk.create(envs={"E2B_SANDBOX_ID": "forged"})
    info = await sandbox.get_info()
    seen = await sandbox.commands.run("echo $E2B_SANDBOX $E2B_SANDBOX_ID $E2B_TEMPLATE_ID")
    assert seen.stdout.split() == ["true", sandbox.sandbox_id, info.template_id]


async def test_connect_finds_the_same_machine(sdk):
    first = await sdk.create(envs={"COLOUR": "blue"})
    await first.files.write("note.txt", "left by the first client")
    second = await sdk.connect(first.sandbox_id)
    assert second.sandbox_id == first.sandbox_id
    assert await second.files.read("note.txt") == "left by the first client"
    assert (await second.commands.run("echo $COLOUR")).stdout == "blue\n"
    assert await second.is_running()


async def test_connect_to_an_unknown_sandbox(sdk):
    with pytest.raises(e2b.SandboxNotFoundException if sdk.version >= (2, 45) else e2b.NotFoundException):
        await sdk.connect("i" + "0" * 20)


async def test_connect_extends_and_never_shortens(sdk):
    sandbox = await sdk.create(timeout=600)
    end = (await sandbox.get_info()).end_at
    await sdk.connect(sandbox.sandbox_id, timeout=30)
    assert (await sandbox.get_info()).end_at == end
    await sdk.connect(sandbox.sandbox_id, timeout=1800)
    later = (await sandbox.get_info()).end_at
    assert 1795 <= (later - now()).total_seconds() <= 1801


async def test_set_timeout_moves_the_end_both_ways(sdk):
    sandbox = await sdk.create(timeout=60)
    await sandbox.set_timeout(900)
    assert 895 <= ((await sandbox.get_info()).end_at - now()).total_seconds() <= 901
    await sdk.call("set_timeout", sandbox.sandbox_id, 100)
    assert 95 <= ((await sandbox.get_info()).end_at - now()).total_seconds() <= 101


async def test_a_sandbox_ends_on_time(sdk):
    sandbox = await sdk.create(timeout=60)
    started = time.monotonic()
    await sandbox.set_timeout(5)

    async def gone():
        return not await sandbox.is_running()

    await asyncio.sleep(1.5)
    assert await sandbox.is_running(), "ended too early"
    await eventually(gone, within=20)
    assert 4.5 <= time.monotonic() - started <= 15
    listed = await all_pages(sdk.list())
    assert sandbox.sandbox_id not in [entry.sandbox_id for entry in listed]
    assert await sandbox.kill() is False
    with pytest.raises(e2b.NotFoundException):
        await sandbox.get_info()


async def test_a_create_timeout_counts_from_the_start(sdk):
    sandbox = await sdk.create(timeout=2)

    async def gone():
        return not await sandbox.is_running()

    started = time.monotonic()
    await eventually(gone, within=20)
    assert time.monotonic() - started <= 12


async def test_timeout_zero_ends_a_sandbox_now(sdk):
    sandbox = await sdk.create()
    await sandbox.set_timeout(0)

    async def gone():
        return not await sandbox.is_running()

    await eventually(gone, within=15)


async def test_a_command_on_an_ended_sandbox_says_so(sdk):
    sandbox = await sdk.create()
    await sandbox.kill()
    with pytest.raises((e2b.TimeoutException, e2b.NotFoundException)) as error:
        await sandbox.commands.run("echo nobody")
    assert "sandbox" in str(error.value).lower()
    with pytest.raises((e2b.TimeoutException, e2b.NotFoundException)):
        await sandbox.files.read("/etc/hostname")


async def test_a_command_is_cut_when_its_sandbox_is_killed(sdk):
    sandbox = await sdk.create()
    handle = await sandbox.commands.run("sleep 60", background=True)
    waiting = asyncio.ensure_future(handle.wait())
    await asyncio.sleep(0.3)
    await sdk.call("kill", sandbox.sandbox_id)
    started = time.monotonic()
    with pytest.raises(Exception) as error:
        await asyncio.wait_for(waiting, 15)
    assert isinstance(error.value, e2b.SandboxException), repr(error.value)
    assert time.monotonic() - started < 15


async def test_static_calls_work_with_the_id_alone(sdk):
    sandbox = await sdk.create(metadata={"by": "id"})
    assert (await sdk.call("get_info", sandbox.sandbox_id)).metadata == {"by": "id"}
    assert await sdk.call("kill", sandbox.sandbox_id) is True
    assert await sdk.call("kill", sandbox.sandbox_id) is False
    assert await sdk.call("kill", "i" + "0" * 20) is False


async def test_listing_pages_and_filters(sdk):
    tag = uuid.uuid4().hex
    odd = {"tag": tag, "odd": "a&b=c d/é+%", "k ey": "v"}
    made = []
    for number in range(5):
        metadata = {"tag": tag, "number": str(number)} if number else odd
        made.append((await sdk.create(metadata=metadata)).sandbox_id)

    paginator = sdk.list(query=e2b.SandboxQuery(metadata={"tag": tag}), limit=2)
    assert paginator.has_next
    pages = []
    while paginator.has_next:
        pages.append([entry.sandbox_id for entry in await paginator.next_items()])
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sum(pages, []) == list(reversed(made)), "newest first, nothing twice"

    async def find(**options):
        return [entry.sandbox_id for entry in await all_pages(sdk.list(**options))]

    assert await find(query=e2b.SandboxQuery(metadata=odd)) == [made[0]]
    assert await find(query=e2b.SandboxQuery(metadata={"tag": tag, "number": "3"})) == [made[3]]
    assert await find(query=e2b.SandboxQuery(metadata={"tag": tag, "number": "9"})) == []
    assert await find(query=e2b.SandboxQuery(metadata={"tag": tag}, state=[e2b.SandboxState.RUNNING])) == list(reversed(made))
    assert await find(query=e2b.SandboxQuery(metadata={"tag": tag}, state=[e2b.SandboxState.PAUSED])) == []
    assert await find(query=e2b.SandboxQuery(metadata={"tag": tag}), order="asc") == made

    await sdk.call("kill", made[2])
    assert made[2] not in await find(query=e2b.SandboxQuery(metadata={"tag": tag}))


async def test_listed_entries_carry_their_data(sdk):
    tag = uuid.uuid4().hex
    sandbox = await sdk.create(metadata={"tag": tag}, timeout=77)
    [entry] = await sdk.list(query=e2b.SandboxQuery(metadata={"tag": tag})).next_items()
    info = await sandbox.get_info()
    assert entry.metadata == {"tag": tag}
    assert entry.state.value == "running"
    assert (entry.started_at, entry.end_at) == (info.started_at, info.end_at)
    assert (entry.cpu_count, entry.memory_mb) == (info.cpu_count, info.memory_mb)


async def test_metrics_are_measured(sdk):
    sandbox = await sdk.create()
    await sandbox.commands.run("head -c 30000000 /dev/zero > /dev/shm/ballast")

    async def points():
        found = await sandbox.get_metrics()
        return [p for p in found if p.mem_used >= 30_000_000]

    last = (await eventually(points, within=20, every=0.5))[-1]
    info = await sandbox.get_info()
    assert last.cpu_count == info.cpu_count
    assert last.mem_total == info.memory_mb * 1024 * 1024
    assert last.mem_used <= last.mem_total
    assert 0 <= last.disk_used <= last.disk_total and last.disk_total > 0
    assert 0 <= last.cpu_used_pct <= 100
    assert abs((now() - last.timestamp).total_seconds()) < 15
    hour_ago = now() - datetime.timedelta(hours=1)
    assert await sandbox.get_metrics(start=hour_ago - datetime.timedelta(hours=1), end=hour_ago) == []
    assert await sandbox.get_metrics(start=hour_ago) != []


async def test_twenty_sandboxes_at_once(sdk):
    sandboxes = await asyncio.gather(*[sdk.create(metadata={"n": str(n)}) for n in range(20)])
    assert len({s.sandbox_id for s in sandboxes}) == 20
    results = await asyncio.gather(*[s.commands.run(f"echo {n} > mine; cat mine") for n, s in enumerate(sandboxes)])
    assert [r.stdout for r in results] == [f"{n}\n" for n in range(20)]
    killed = await asyncio.gather(*[s.kill() for s in sandboxes])
    assert killed == [True] * 20


async def test_a_repeated_create_returns_the_same_sandbox(sdk):
    if sdk.version < (2, 60):
        pytest.skip("this version has no idempotency_key")
    key = str(uuid.uuid4())
    first = await sdk.create(metadata={"a": "1"}, idempotency_key=key)
    again = await sdk.create(metadata={"a": "1"}, idempotency_key=key)
    assert again.sandbox_id == first.sandbox_id
    assert (await again.commands.run("echo same")).stdout == "same\n"
    with pytest.raises(e2b.SandboxException) as error:
        await sdk.create(metadata={"a": "2"}, idempotency_key=key)
    assert "422" in str(error.value)


async def test_an_insecure_sandbox_needs_no_token(sdk):
    if sdk.version >= (2, 52):
        pytest.skip("this version secures every sandbox")
    import httpx

    open_box = await sdk.create(secure=False)
    closed_box = await sdk.create()
    for sandbox, status in [(open_box, 200), (closed_box, 401)]:
        answer = httpx.post(
            os.environ["E2B_SANDBOX_URL"] + "/process.Process/List",
            json={},
            headers={"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"},
        )
        assert answer.status_code == status
    assert (await open_box.commands.run("echo open")).stdout == "open\n"


async def test_what_is_not_built_tells_what_does_not_exist(sdk):
    gone = "i" + "0" * 20
    for call in ("pause", "create_snapshot", "fork"):
        with pytest.raises(e2b.NotFoundException):
            await sdk.call(call, gone)
    assert await sdk.call("delete_snapshot", "no-such-snapshot") is False
    sandbox = await sdk.create()
    for call in ("pause", "create_snapshot", "fork"):
        with pytest.raises(e2b.SandboxException) as error:
            await sdk.call(call, sandbox.sandbox_id)
        assert "501" in str(error.value) and "not implemented" in str(error.value)
    assert await sandbox.is_running()


async def test_rules_come_back_as_they_were_asked_for(sdk):
    rules = {"example.com": [{"transform": {"headers": {"X-Test-Key": "Value 1", "authorization": "Bearer x"}}}]}
    sandbox = await sdk.create(network={"allow_out": ["example.com"], "deny_out": ["0.0.0.0/0"], "rules": rules})
    assert (await sandbox.get_info()).network["rules"] == rules
