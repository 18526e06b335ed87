"""Open a terminal."""

import asyncio

import e2b
import pytest

from flavours import eventually


class Terminal:
    """A terminal whose output is collected while the test goes on."""

    @classmethod
    async def open(cls, sdk, sandbox, rows=24, cols=80, **options):
        self = cls()
        self.sandbox, self.output = sandbox, bytearray()
        size = e2b.PtySize(rows=rows, cols=cols)
        if sdk.sync:
            self.handle = await sandbox.pty.create(size, **options)
            self.waiting = asyncio.ensure_future(self.handle.wait(on_pty=self.output.extend))
        else:
            self.handle = await sandbox.pty.create(size, on_data=self.output.extend, **options)
            self.waiting = asyncio.ensure_future(self.handle.wait())
        self.pid = self.handle.pid
        return self

    async def type(self, line):
        await self.sandbox.pty.send_stdin(self.pid, line.encode())

    async def sees(self, text):
        async def found():
            return text.encode() in bytes(self.output)

        try:
            await eventually(found, within=10, every=0.05)
        except AssertionError:
            raise AssertionError(f"{text!r} not in {bytes(self.output)!r}") from None

    async def close(self):
        await self.type("exit\n")
        return await asyncio.wait_for(self.waiting, 10)


async def test_a_shell_answers(sdk, sandbox):
    terminal = await Terminal.open(sdk, sandbox)
    await terminal.type("echo $((6*7)) is it; tty; echo $TERM $LANG\n")
    await terminal.sees("42 is it")
    await terminal.sees("/dev/pts/")
    await terminal.sees("xterm-256color C.UTF-8")
    assert (await terminal.close()).exit_code == 0


async def test_size_and_resize(sdk, sandbox):
    terminal = await Terminal.open(sdk, sandbox, rows=11, cols=77)
    await terminal.type("stty size\n")
    await terminal.sees("11 77")
    await sandbox.pty.resize(terminal.pid, e2b.PtySize(rows=33, cols=101))
    await terminal.type("stty size\n")
    await terminal.sees("33 101")
    await terminal.close()


@pytest.mark.base
async def test_terminfo_knows_the_terminal(sdk, sandbox):
    terminal = await Terminal.open(sdk, sandbox, rows=24, cols=93)
    await terminal.type("echo cols=$(tput cols) colours=$(tput colors)\n")
    await terminal.sees("cols=93 colours=256")
    await terminal.close()


WINCH = """
import signal, time
signal.signal(signal.SIGWINCH, lambda *_: print("winched", flush=True))
print("ready", flush=True)
time.sleep(60)
"""


async def test_a_resize_is_signalled(sdk, sandbox):
    await sandbox.files.write("winch.py", WINCH)
    terminal = await Terminal.open(sdk, sandbox)
    await terminal.type("exec python3 winch.py\n")
    await terminal.sees("ready")
    await sandbox.pty.resize(terminal.pid, e2b.PtySize(rows=5, cols=50))
    await terminal.sees("winched")
    await sandbox.pty.kill(terminal.pid)
    with pytest.raises(e2b.CommandExitException):
        await asyncio.wait_for(terminal.waiting, 10)


async def test_control_c_interrupts(sdk, sandbox):
    terminal = await Terminal.open(sdk, sandbox)
    await terminal.type("echo wai''ting; sleep 100\n")
    await terminal.sees("waiting")
    await asyncio.sleep(0.3)
    await terminal.type("\x03")
    await terminal.type("echo code=$?\n")
    await terminal.sees("code=130")
    await terminal.close()


async def test_exit_code_of_a_terminal(sdk, sandbox):
    terminal = await Terminal.open(sdk, sandbox)
    await terminal.type("exit 7\n")
    with pytest.raises(e2b.CommandExitException) as error:
        await asyncio.wait_for(terminal.waiting, 10)
    assert error.value.exit_code == 7


async def test_user_directory_and_environment(sdk, sandbox):
    terminal = await Terminal.open(sdk, sandbox, user="root", cwd="/tmp", envs={"GREETING": "hi there", "TERM": "vt100"})
    await terminal.type("echo \"$(id -un):$PWD:$GREETING:$TERM\"\n")
    await terminal.sees("root:/tmp:hi there:vt100")
    await terminal.close()


async def test_kill(sdk, sandbox):
    terminal = await Terminal.open(sdk, sandbox)
    assert await sandbox.pty.kill(terminal.pid) is True
    with pytest.raises(e2b.CommandExitException) as error:
        await asyncio.wait_for(terminal.waiting, 10)
    assert error.value.exit_code == -1
    assert await sandbox.pty.kill(terminal.pid) is False


async def test_reattach(sdk, sandbox):
    terminal = await Terminal.open(sdk, sandbox)
    await terminal.type("LEFT=behind\n")
    await terminal.sees("LEFT=behind")
    output = bytearray()
    if sdk.sync:
        again = await sandbox.pty.connect(terminal.pid)
        waiting = asyncio.ensure_future(again.wait(on_pty=output.extend))
    else:
        again = await sandbox.pty.connect(terminal.pid, on_data=output.extend)
        waiting = asyncio.ensure_future(again.wait())
    await terminal.type("echo still $LEFT\n")
    await terminal.sees("still behind")

    async def both():
        return b"still behind" in bytes(output)

    await eventually(both)
    await terminal.close()
    await asyncio.wait_for(waiting, 10)


async def test_resizing_or_typing_into_a_plain_command_fails(sandbox):
    handle = await sandbox.commands.run("sleep 30", background=True)
    with pytest.raises(e2b.SandboxException):
        await sandbox.pty.resize(handle.pid, e2b.PtySize(rows=5, cols=5))
    with pytest.raises(e2b.SandboxException):
        await sandbox.pty.send_stdin(handle.pid, b"x")
    await handle.kill()
