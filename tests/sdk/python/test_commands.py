"""Run commands: results, streams, users, signals, time limits."""

import asyncio
import time

import e2b
import pytest

from flavours import eventually


async def test_result_has_both_streams_and_the_code(sandbox):
    result = await sandbox.commands.run("echo out; echo err >&2")
    assert (result.stdout, result.stderr, result.exit_code, result.error) == ("out\n", "err\n", 0, None)


async def test_a_failing_command_raises_with_its_output(sandbox):
    with pytest.raises(e2b.CommandExitException) as error:
        await sandbox.commands.run("echo before; echo why >&2; exit 3")
    assert error.value.exit_code == 3
    assert error.value.stdout == "before\n"
    assert error.value.stderr == "why\n"
    assert error.value.error == "exit status 3"


async def test_a_missing_program_is_code_127(sandbox):
    with pytest.raises(e2b.CommandExitException) as error:
        await sandbox.commands.run("no-such-program-here")
    assert error.value.exit_code == 127
    assert "not found" in error.value.stderr


async def test_a_command_killed_by_a_signal(sandbox):
    with pytest.raises(e2b.CommandExitException) as error:
        await sandbox.commands.run("kill -TERM $$")
    assert error.value.exit_code == -1
    assert error.value.error == "signal: terminated"


async def test_output_arrives_while_the_command_runs(sandbox):
    """The next line is not written before the one before has arrived."""
    seen = []
    command = "for i in 1 2 3; do echo $i; while [ ! -e seen$i ]; do sleep 0.02; done; done"
    running = asyncio.ensure_future(sandbox.commands.run(command, on_stdout=seen.append))
    for line in range(1, 4):

        async def arrived():
            return len(seen) == line

        await eventually(arrived)
        await sandbox.files.write(f"seen{line}", "")
    assert (await running).stdout == "1\n2\n3\n"
    assert seen == ["1\n", "2\n", "3\n"]


async def test_stdout_and_stderr_reach_their_callbacks_in_order(sandbox):
    out, err = [], []
    await sandbox.commands.run(
        "for i in $(seq 200); do echo o$i; echo e$i >&2; done", on_stdout=out.append, on_stderr=err.append
    )
    assert "".join(out) == "".join(f"o{i}\n" for i in range(1, 201))
    assert "".join(err) == "".join(f"e{i}\n" for i in range(1, 201))


async def test_runs_as_user_in_its_home(sandbox):
    result = await sandbox.commands.run("id -un; pwd; echo $HOME $USER $LOGNAME")
    assert result.stdout.splitlines() == ["user", "/home/user", "/home/user user user"]


async def test_runs_as_root_when_asked(sandbox):
    result = await sandbox.commands.run("id -u; pwd; echo $HOME", user="root")
    assert result.stdout.splitlines() == ["0", "/root", "/root"]


async def test_an_unknown_user_is_refused(sandbox):
    with pytest.raises(e2b.AuthenticationException) as error:
        await sandbox.commands.run("true", user="nobody-knows")
    assert "nobody-knows" in str(error.value)


@pytest.mark.base
async def test_sudo_works_without_a_password(sandbox):
    result = await sandbox.commands.run("sudo id -u; sudo -n touch /root/made; sudo stat -c %U /root/made")
    assert result.stdout.splitlines() == ["0", "root"]


@pytest.mark.base
async def test_the_base_template_has_its_tools(sandbox):
    tools = "bash sudo ps ip python python3 pip node npm git curl wget ssh tput getfattr"
    missing = await sandbox.commands.run(f"for t in {tools}; do command -v $t >/dev/null || echo $t; done")
    assert missing.stdout == ""
    venv = await sandbox.commands.run("python -m venv v && v/bin/python -c 'import sys; print(sys.prefix)'")
    assert venv.stdout == "/home/user/v\n"
    assert (await sandbox.commands.run("node -e 'console.log(6*7)'")).stdout == "42\n"
    await sandbox.commands.run("git daemon --help >/dev/null; test -s /etc/ssl/certs/ca-certificates.crt")


async def test_working_directory(sandbox):
    assert (await sandbox.commands.run("pwd", cwd="/tmp")).stdout == "/tmp\n"
    await sandbox.commands.run("mkdir -p a/b")
    assert (await sandbox.commands.run("pwd", cwd="a/b")).stdout == "/home/user/a/b\n"
    assert (await sandbox.commands.run("pwd", cwd="~/a")).stdout == "/home/user/a\n"


async def test_a_missing_working_directory_is_named(sandbox):
    with pytest.raises(e2b.InvalidArgumentException) as error:
        await sandbox.commands.run("pwd", cwd="/not/there")
    assert "/not/there" in str(error.value) and "does not exist" in str(error.value)


async def test_environment_of_one_command(sandbox):
    result = await sandbox.commands.run('printf "%s|%s" "$A" "$B"', envs={"A": "x y", "B": ""})
    assert result.stdout == "x y|"
    assert (await sandbox.commands.run("echo [$A]")).stdout == "[]\n"


async def test_unicode_goes_through_whole(sandbox):
    text = "žluťoučký kůň 🐎 " * 20_000
    await sandbox.files.write("text", text)
    assert (await sandbox.commands.run("cat text")).stdout == text
    assert (await sandbox.commands.run("echo 'naïve ☃'")).stdout == "naïve ☃\n"


async def test_bytes_that_are_no_text_become_replacement_characters(sandbox):
    result = await sandbox.commands.run(r"printf 'a\377\376b\000c'")
    assert result.stdout == "a\ufffd\ufffdb\x00c"


async def test_twenty_megabytes_of_output(sandbox):
    result = await sandbox.commands.run("head -c 20000000 /dev/zero | tr '\\0' x; echo end >&2")
    assert len(result.stdout) == 20_000_000
    assert set(result.stdout) == {"x"}
    assert result.stderr == "end\n"


async def test_fifty_commands_at_once(sandbox):
    started = time.monotonic()
    results = await asyncio.gather(*[sandbox.commands.run(f"sleep 1; echo {n}; exit 0") for n in range(50)])
    assert [r.stdout for r in results] == [f"{n}\n" for n in range(50)]
    assert time.monotonic() - started < 30, "commands must not wait for each other"


async def test_standard_input(sandbox):
    handle = await sandbox.commands.run("cat; echo done", background=True, stdin=True)
    await sandbox.commands.send_stdin(handle.pid, "first\n")
    await sandbox.commands.send_stdin(handle.pid, b"second \xe2\x98\x83\n")
    await sandbox.commands.close_stdin(handle.pid)
    assert (await handle.wait()).stdout == "first\nsecond ☃\ndone\n"


async def test_standard_input_through_the_handle(sandbox):
    handle = await sandbox.commands.run('read a; read b; echo "$b$a"', background=True, stdin=True)
    await handle.send_stdin("1\n")
    await handle.send_stdin("2\n")
    assert (await handle.wait()).stdout == "21\n"


async def test_a_megabyte_of_standard_input(sandbox):
    handle = await sandbox.commands.run("sha256sum", background=True, stdin=True)
    import hashlib

    chunk = bytes(range(32, 127)) * 700
    total = hashlib.sha256()
    for _ in range(16):
        await handle.send_stdin(chunk)
        total.update(chunk)
    await handle.close_stdin()
    assert (await handle.wait()).stdout.split()[0] == total.hexdigest()


async def test_standard_input_is_empty_unless_asked_for(sandbox):
    result = await sandbox.commands.run("cat; echo after", timeout=10)
    assert result.stdout == "after\n"
    handle = await sandbox.commands.run("sleep 5", background=True)
    with pytest.raises(e2b.SandboxException):
        await handle.send_stdin("nobody reads")
    await handle.kill()


async def test_streamed_input(sdk, sandbox):
    if sdk.version < (2, 60):
        pytest.skip("this version has no stream_input")
    handle = await sandbox.commands.run("cat", background=True, stdin=True)
    if sdk.sync:
        await sandbox.commands.stream_input(handle.pid, ["one\n", b"two\n", "three\n"])
    else:
        stream = sandbox.commands.stream_input(handle.pid)
        for line in ["one\n", b"two\n", "three\n"]:
            await stream.send(line)
        await stream.close()
    await handle.close_stdin()
    assert (await handle.wait()).stdout == "one\ntwo\nthree\n"


async def test_list_shows_what_runs(sandbox):
    assert await sandbox.commands.list() == []
    handle = await sandbox.commands.run("sleep 30", background=True, envs={"K": "v"}, cwd="/tmp")
    [process] = await sandbox.commands.list()
    assert process.pid == handle.pid
    assert process.cmd == "/bin/bash" and list(process.args) == ["-l", "-c", "sleep 30"]
    assert process.envs == {"K": "v"} and process.cwd == "/tmp"
    assert await handle.kill() is True
    with pytest.raises(e2b.CommandExitException):
        await handle.wait()
    assert await sandbox.commands.list() == []


async def test_kill(sandbox):
    handle = await sandbox.commands.run("exec sleep 60", background=True)
    assert (await sandbox.commands.run(f"kill -0 {handle.pid} && echo there")).stdout == "there\n"
    assert await sandbox.commands.kill(handle.pid) is True
    with pytest.raises(e2b.CommandExitException) as error:
        await handle.wait()
    assert error.value.exit_code == -1 and error.value.error == "signal: killed"
    assert await sandbox.commands.kill(handle.pid) is False
    assert await sandbox.commands.kill(999_999) is False
    assert (await sandbox.commands.run(f"kill -0 {handle.pid} 2>/dev/null || echo gone")).stdout == "gone\n"


async def test_a_second_kill_finds_nothing(sandbox):
    for _ in range(10):
        handle = await sandbox.commands.run("sleep 60; true", background=True)
        assert await sandbox.commands.kill(handle.pid) is True
        assert await sandbox.commands.kill(handle.pid) is False


async def test_kill_ends_the_stream_although_a_grandchild_keeps_it_open(sandbox):
    handle = await sandbox.commands.run("sleep 60 & wait", background=True)
    started = time.monotonic()
    await handle.kill()
    with pytest.raises(e2b.CommandExitException):
        await handle.wait()
    assert time.monotonic() - started < 20


async def test_a_command_waits_for_children_that_hold_its_output(sandbox):
    started = time.monotonic()
    result = await sandbox.commands.run("(sleep 1; echo late) & echo early")
    assert result.stdout == "early\nlate\n"
    assert time.monotonic() - started >= 0.9


async def test_a_detached_child_holds_nothing(sandbox):
    started = time.monotonic()
    result = await sandbox.commands.run("nohup sleep 60 >/dev/null 2>&1 & echo started")
    assert result.stdout == "started\n"
    assert time.monotonic() - started < 20

    async def sleeps():
        return (await sandbox.commands.run("pgrep -c sleep || true")).stdout == "1\n"

    await eventually(sleeps)


async def test_connect_to_a_running_command(sdk, sandbox):
    handle = await sandbox.commands.run(
        "echo unseen; sleep 0.5; touch said; while [ ! -e go ]; do sleep 0.05; done; echo seen; exit 4", background=True
    )
    while not await sandbox.files.exists("said"):
        await asyncio.sleep(0.05)
    await handle.disconnect()
    other = await sdk.connect(sandbox.sandbox_id)
    [process] = await other.commands.list()
    assert process.pid == handle.pid, "a command outlives the client that started it"
    again = await other.commands.connect(process.pid)
    await sandbox.files.write("go", "")
    with pytest.raises(e2b.CommandExitException) as error:
        await again.wait()
    assert error.value.exit_code == 4
    assert error.value.stdout == "seen\n"


async def test_connect_to_a_command_that_never_was(sandbox):
    with pytest.raises(e2b.NotFoundException):
        await sandbox.commands.connect(999_999)


async def test_two_clients_follow_one_command(sdk, sandbox):
    first = await sandbox.commands.run("while [ ! -e go ]; do sleep 0.05; done; seq 100", background=True)
    other = await sdk.connect(sandbox.sandbox_id)
    second = await other.commands.connect(first.pid)
    await sandbox.files.write("go", "")
    one, two = await asyncio.gather(first.wait(), second.wait())
    assert one.stdout == two.stdout == "".join(f"{i}\n" for i in range(1, 101))


async def test_time_limit_ends_the_command(sandbox):
    started = time.monotonic()
    with pytest.raises(e2b.TimeoutException):
        await sandbox.commands.run("exec sleep 4321", timeout=1)
    assert 0.8 <= time.monotonic() - started < 15

    async def gone():
        found = await sandbox.commands.run("pgrep -fx 'sleep 4321' || echo none")
        return found.stdout == "none\n"

    await eventually(gone)
    assert await sandbox.commands.list() == []


async def test_time_limit_kills_even_when_nobody_listens(sandbox):
    handle = await sandbox.commands.run("exec sleep 4322", background=True, timeout=5)
    await handle.disconnect()

    async def gone():
        return await sandbox.commands.list() == []

    await asyncio.sleep(1)
    assert not await gone(), "killed too early"
    await eventually(gone, within=15)


async def test_no_time_limit(sandbox):
    assert (await sandbox.commands.run("sleep 2; echo slow", timeout=0)).stdout == "slow\n"


async def test_a_long_command_line(sandbox):
    word = "x" * 100_000
    assert (await sandbox.commands.run(f"printf {word} | wc -c")).stdout.strip() == "100000"


async def test_a_command_line_beyond_the_kernels_limit_is_refused(sandbox):
    with pytest.raises(e2b.SandboxException):
        await sandbox.commands.run("true " + "x" * 200_000)
    assert (await sandbox.commands.run("echo fine")).stdout == "fine\n"


async def test_the_agent_cannot_be_killed_from_inside(sandbox):
    with pytest.raises(e2b.SandboxException):
        await sandbox.commands.run("kill -9 1; kill -9 -1; kill -9 $$", user="root")
    assert await sandbox.is_running()
    assert (await sandbox.commands.run("echo still here")).stdout == "still here\n"


async def test_no_zombies_are_left(sandbox):
    await sandbox.commands.run("for i in $(seq 20); do (sleep 0.1 &) ; done >/dev/null 2>&1")

    async def none():
        states = await sandbox.commands.run("cat /proc/[0-9]*/stat 2>/dev/null | awk '{print $3}' | sort | uniq -c")
        return " Z" not in states.stdout

    await asyncio.sleep(0.5)
    await eventually(none)


async def test_umask_and_open_files(sandbox):
    result = await sandbox.commands.run("umask; ls /proc/self/fd | wc -l; ulimit -n")
    umask, descriptors, limit = result.stdout.split()
    assert umask == "0022"
    assert int(descriptors) <= 4, "no descriptor of the agent leaks into a command"
    assert int(limit) >= 1024


async def test_a_shared_queue_of_output_without_reader_blocks_nobody(sandbox):
    handle = await sandbox.commands.run("head -c 50000000 /dev/zero; touch finished", background=True)
    await handle.disconnect()

    async def finished():
        return await sandbox.files.exists("finished")

    await eventually(finished, within=15)
