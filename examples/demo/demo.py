"""What the PyPI package `e2b`, unmodified, does on a SoulBox server.

Run it with `make demo`, or by hand against a server of your own:

    eval "$(soulbox env)" && python examples/demo/demo.py
"""

import os
import queue
import re
import time
import urllib.request
from contextlib import contextmanager

from e2b import CommandExitException, PtySize, Sandbox

# What a terminal obeys and does not show.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


@contextmanager
def step(title):
    """Prints what happens, line by line, and how long all of it took."""
    print(f"\n{title}", flush=True)
    started = time.perf_counter()
    yield lambda text: print(f"    {text}", flush=True)
    print(f"  {(time.perf_counter() - started) * 1000:8.1f} ms", flush=True)


def run(sandbox):
    with step("Run a command and stream its output") as say:
        result = sandbox.commands.run(
            "for i in 1 2 3; do echo line $i; sleep 0.2; done; echo oops >&2",
            on_stdout=lambda chunk: say(f"stdout: {chunk.strip()}"),
            on_stderr=lambda chunk: say(f"stderr: {chunk.strip()}"),
        )
        say(f"exit code {result.exit_code}")

    with step("A failing command tells its exit code") as say:
        try:
            sandbox.commands.run("exit 42")
            raise SystemExit("a failing command must raise")
        except CommandExitException as error:
            say(f"exit code {error.exit_code}")

    with step("Who and where: a Debian of its own, root by sudo, no privilege outside") as say:
        say(sandbox.commands.run(". /etc/os-release; echo $PRETTY_NAME as $(whoami) in $PWD").stdout.strip())
        say("sudo: " + sandbox.commands.run("sudo id").stdout.strip())
        say(sandbox.commands.run("python --version; node --version; git --version").stdout.strip().replace("\n", ", "))


def files(sandbox):
    with step("Write, read, list and move files") as say:
        sandbox.files.write("hello.py", "print('hello from', __file__)\n")
        say(repr(sandbox.files.read("hello.py")))
        say(sandbox.commands.run("python hello.py").stdout.strip())
        sandbox.files.make_dir("inbox")
        sandbox.files.rename("hello.py", "inbox/hello.py")
        for entry in sandbox.files.list("inbox"):
            say(f"{entry.path}, {entry.size} bytes, owner {entry.owner}")

    with step("Ten megabytes there and back") as say:
        data = os.urandom(10 * 1024 * 1024)
        sandbox.files.write("blob", data)
        same = bytes(sandbox.files.read("blob", format="bytes")) == data
        say("identical" if same else "DIFFERENT")
        if not same:
            raise SystemExit("the file came back different")

    with step("Watch a directory") as say:
        handle = sandbox.files.watch_dir("inbox")
        sandbox.files.write("inbox/letter.txt", "dear sandbox")
        deadline = time.monotonic() + 10
        seen = []
        while not any(event.name == "letter.txt" for event in seen):
            if time.monotonic() > deadline:
                raise SystemExit("no event within 10 s")
            seen += handle.get_new_events()
            time.sleep(0.02)
        for event in seen:
            say(f"{event.type.value} {event.name}")
        handle.stop()


def terminal(sandbox):
    with step("Open a terminal, type into it, resize it") as say:
        screen = queue.SimpleQueue()
        pty = sandbox.pty.create(PtySize(rows=24, cols=80), timeout=30)
        sandbox.pty.resize(pty.pid, PtySize(rows=50, cols=132))
        sandbox.pty.send_stdin(pty.pid, b"tput cols; tput lines; exit 7\n")
        try:
            pty.wait(on_pty=lambda data: screen.put(bytes(data)))
            code = 0
        except CommandExitException as error:
            code = error.exit_code
        text = b""
        while not screen.empty():
            text += screen.get()
        for line in CONTROL.sub("", text.decode(errors="replace")).splitlines():
            say(line)
        say(f"exit code {code}")
        if b"132" not in text or b"50" not in text or code != 7:
            raise SystemExit("the terminal did not do as it was told")


def web(sandbox):
    with step("Serve a port inside, fetch it from outside") as say:
        sandbox.files.write("site/index.html", "<h1>Hello from a sandbox</h1>\n")
        server = sandbox.commands.run("python -m http.server 8000 --directory site", background=True)
        host = sandbox.get_host(8000)
        # Browsers resolve *.localhost by themselves; urllib does not, so it gets the server's address.
        request = urllib.request.Request(os.environ["E2B_SANDBOX_URL"], headers={"Host": host})
        body = fetch(request, within=10)
        say(f"http://{host}/ answers {body.decode().strip()!r}")
        server.kill()


def network(sandbox):
    with step("Install a package from PyPI, inside") as say:
        sandbox.commands.run("pip install --quiet --no-cache-dir --break-system-packages cowsay", timeout=120)
        for line in sandbox.commands.run("cowsay -t 'I have a way out'").stdout.splitlines():
            say(line)

    with step("Ask for what no sandbox may reach: the metadata service of a cloud") as say:
        say(sandbox.commands.run("curl -s http://169.254.169.254/latest/meta-data/").stdout.strip())

    with step("Close the way out while it runs") as say:
        sandbox.update_network({"allow_internet_access": False})
        say(sandbox.commands.run("curl -sS http://www.example.com/ 2>&1 || true").stdout.strip())


def fetch(request, within):
    """The body, as soon as the server in the sandbox listens."""
    deadline = time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main():
    started = time.perf_counter()
    with step("Create a sandbox") as say:
        sandbox = Sandbox.create(timeout=120, metadata={"made-by": "demo"})
        say(sandbox.sandbox_id)
    try:
        with step("Run its first command") as say:
            say(sandbox.commands.run("uname -srm").stdout.strip())
        run(sandbox)
        files(sandbox)
        terminal(sandbox)
        web(sandbox)
        network(sandbox)
        with step("List the sandboxes of this team") as say:
            for found in Sandbox.list().next_items():
                say(f"{found.sandbox_id} {found.state.value} {found.cpu_count} CPU {found.memory_mb} MiB {found.metadata}")
    finally:
        with step("Kill it") as say:
            say(f"killed: {sandbox.kill()}")
    print(f"\nAll of it: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
