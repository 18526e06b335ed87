"""What a user of any version does; run by test_versions.py. The template's name is the argument."""

import ssl
import sys
import urllib.request
from importlib.metadata import version

import e2b
from e2b import Sandbox
from e2b.sandbox.commands.command_handle import PtySize

VERSION = tuple(int(part) for part in version("e2b").split("."))
TEMPLATE = sys.argv[1]
NOBODY = "i" + "0" * 20


def create(**options):
    make = Sandbox.create if VERSION >= (2,) else Sandbox
    return make(template=options.pop("template", TEMPLATE), **options)


def raises(kind, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"{call} raised nothing")


def listed(**query):
    if VERSION < (2,):
        return Sandbox.list()
    return Sandbox.list(query=e2b.SandboxQuery(**query)).next_items()


def commands(sandbox):
    run = sandbox.commands.run
    result = run("echo $X; id -un; echo err >&2")
    assert (result.stdout, result.stderr, result.exit_code) == ("1 2\nuser\n", "err\n", 0), result
    failed = raises(e2b.CommandExitException, run, "echo out; exit 3")
    assert (failed.exit_code, failed.stdout) == (3, "out\n")
    assert run("pwd; id -u", cwd="/tmp", user="root").stdout == "/tmp\n0\n"
    raises(e2b.InvalidArgumentException, run, "true", cwd="/not/there")
    # Up to 2.20 a silent second ends in an error of the transport, if that notices before the server's answer comes.
    raises(e2b.TimeoutException, run, "while echo; do sleep 0.2; done", timeout=2)
    seen = []
    run("printf 'a\\nb\\n'", on_stdout=seen.append)
    assert "".join(seen) == "a\nb\n"

    # Before 2.10 every command can be written to, and nothing asks for it.
    asked = {"stdin": True} if VERSION >= (2, 10) else {}
    if VERSION < (1, 9) or VERSION >= (2, 10):
        handle = run("read line; echo got $line", background=True, **asked)
        sandbox.commands.send_stdin(handle.pid, "it\n")
        assert handle.wait().stdout == "got it\n"
    handle = run("sleep 60", background=True)
    assert handle.pid in [process.pid for process in sandbox.commands.list()]
    assert sandbox.commands.kill(handle.pid) and not sandbox.commands.kill(handle.pid)
    assert raises(e2b.CommandExitException, handle.wait).exit_code == -1


def terminal(sandbox):
    shell = sandbox.pty.create(PtySize(rows=24, cols=80))
    sandbox.pty.resize(shell.pid, PtySize(rows=30, cols=100))
    sandbox.pty.send_stdin(shell.pid, b"stty size; exit\n")
    seen = []
    assert shell.wait(on_pty=seen.append).exit_code == 0
    assert b"30 100" in b"".join(seen)


def files(sandbox):
    fs = sandbox.files
    assert fs.write("d/a.txt", "h\u00e9llo").path == "/home/user/d/a.txt"
    assert fs.read("d/a.txt") == "h\u00e9llo"
    fs.write("b.bin", b"\x00\xff")
    assert bytes(fs.read("b.bin", format="bytes")) == b"\x00\xff"
    assert b"".join(fs.read("b.bin", format="stream")) == b"\x00\xff"
    assert [(entry.name, entry.path) for entry in fs.list("d")] == [("a.txt", "/home/user/d/a.txt")]
    assert fs.exists("d") and not fs.exists("nope")
    raises(e2b.NotFoundException, fs.read, "/nope")
    raises(e2b.NotFoundException, fs.list, "/nope")
    assert fs.make_dir("x/y") and not fs.make_dir("x/y")
    assert fs.rename("b.bin", "x/c.bin").path == "/home/user/x/c.bin"
    fs.remove("x")
    watch = fs.watch_dir("d")
    fs.write("d/new.txt", "")
    assert ("new.txt", "create") in [(event.name, event.type.value) for event in watch.get_new_events()]
    watch.stop()
    link = sandbox.download_url("/home/user/d/a.txt")
    with urllib.request.urlopen(link, context=ssl.create_default_context()) as answer:
        assert answer.read().decode() == "h\u00e9llo"


def life(sandbox):
    bare = sandbox.sandbox_id.split("-")[0]
    [entry] = [entry for entry in listed() if entry.sandbox_id.split("-")[0] == bare]
    assert entry.metadata == {"odd": "b c&d=e"}
    sandbox.set_timeout(200)
    again = Sandbox.connect(sandbox.sandbox_id)
    assert again.commands.run("echo still $X").stdout == "still 1 2\n"
    assert again.files.read("d/a.txt") == "h\u00e9llo"
    assert again.is_running()
    if VERSION >= (1, 5):
        raises(e2b.SandboxException, Sandbox.connect, NOBODY)
    assert Sandbox.kill(NOBODY) is False
    assert "no-such" in str(raises(e2b.SandboxException, create, template="no-such"))
    raises(Exception, create, api_key="e2b_" + "0" * 40)
    sandbox.kill()
    assert sandbox.is_running() is False
    raises(Exception, sandbox.commands.run, "true")


sandbox = create(timeout=120, metadata={"odd": "b c&d=e"}, envs={"X": "1 2"})
try:
    assert sandbox.is_running()
    commands(sandbox)
    terminal(sandbox)
    files(sandbox)
    life(sandbox)
finally:
    sandbox.kill()
print("done")
