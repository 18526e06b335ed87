"""The package's git module, on repositories inside the sandbox."""

import e2b
import pytest

from flavours import eventually

pytestmark = pytest.mark.base


async def repository(sandbox, path="/home/user/work"):
    await sandbox.git.init(path, initial_branch="main")
    await sandbox.git.configure_user("A User", "user@example.test")
    return path


async def test_a_day_of_work(sandbox):
    path = await repository(sandbox)
    await sandbox.files.write(f"{path}/a.txt", "one\n")
    status = await sandbox.git.status(path)
    assert (status.current_branch, status.has_untracked, status.is_clean) == ("main", True, False)
    await sandbox.git.add(path)
    status = await sandbox.git.status(path)
    assert [(f.name, f.status, f.staged) for f in status.file_status] == [("a.txt", "added", True)]
    await sandbox.git.commit(path, "Add 'a' — with \"quotes\" and $dollars")
    assert (await sandbox.git.status(path)).is_clean
    log = await sandbox.commands.run("git log --format='%an <%ae> %s'", cwd=path)
    assert log.stdout == "A User <user@example.test> Add 'a' — with \"quotes\" and $dollars\n"

    await sandbox.git.create_branch(path, "feature")
    await sandbox.files.write(f"{path}/b.txt", "two\n")
    await sandbox.git.add(path, files=["b.txt"])
    await sandbox.git.commit(path, "Add b")
    await sandbox.git.checkout_branch(path, "main")
    assert not await sandbox.files.exists(f"{path}/b.txt")
    branches = await sandbox.git.branches(path)
    assert (sorted(branches.branches), branches.current_branch) == (["feature", "main"], "main")
    await sandbox.git.delete_branch(path, "feature", force=True)
    assert (await sandbox.git.branches(path)).branches == ["main"]


async def test_undo(sandbox):
    path = await repository(sandbox)
    await sandbox.files.write(f"{path}/a", "1")
    await sandbox.git.add(path)
    await sandbox.git.commit(path, "one")
    await sandbox.files.write(f"{path}/a", "2")
    await sandbox.git.restore(path, ["a"])
    assert await sandbox.files.read(f"{path}/a") == "1"
    await sandbox.files.write(f"{path}/a", "2")
    await sandbox.git.add(path)
    await sandbox.git.reset(path, mode="hard")
    assert await sandbox.files.read(f"{path}/a") == "1"


async def test_configuration(sandbox):
    path = await repository(sandbox)
    await sandbox.git.set_config("pull.rebase", "false")
    assert await sandbox.git.get_config("pull.rebase") == "false"
    assert await sandbox.git.get_config("no.such") is None
    await sandbox.git.set_config("core.editor", "true", scope="local", path=path)
    assert await sandbox.git.get_config("core.editor", scope="local", path=path) == "true"


async def test_clone_push_and_pull_over_the_network(sandbox):
    await sandbox.git.init("/home/user/srv/shared.git", bare=True, initial_branch="main")
    daemon = await sandbox.commands.run(
        "git daemon --reuseaddr --base-path=/home/user/srv --export-all --enable=receive-pack --listen=127.0.0.1 --port=9418",
        background=True,
        timeout=0,
    )
    url = "git://127.0.0.1/shared.git"

    async def listening():
        probe = await sandbox.commands.run(f"git ls-remote {url} >/dev/null 2>&1 && echo up || true")
        return probe.stdout == "up\n"

    await eventually(listening)
    path = await repository(sandbox, "/home/user/first")
    await sandbox.files.write(f"{path}/readme", "shared\n")
    await sandbox.git.add(path)
    await sandbox.git.commit(path, "start")
    await sandbox.git.remote_add(path, "origin", url)
    assert await sandbox.git.remote_get(path, "origin") == url
    await sandbox.git.push(path, remote="origin", branch="main")

    await sandbox.git.clone(url, path="/home/user/second")
    assert await sandbox.files.read("/home/user/second/readme") == "shared\n"
    await sandbox.files.write("/home/user/second/more", "m\n")
    await sandbox.git.add("/home/user/second")
    await sandbox.git.commit("/home/user/second", "more")
    ahead = await sandbox.git.status("/home/user/second")
    assert (ahead.upstream, ahead.ahead, ahead.behind) == ("origin/main", 1, 0)
    await sandbox.git.push("/home/user/second")
    await sandbox.git.pull(path)
    assert await sandbox.files.read(f"{path}/more") == "m\n"

    await sandbox.git.clone(url, path="/home/user/shallow", depth=1, branch="main")
    count = await sandbox.commands.run("git rev-list --count HEAD", cwd="/home/user/shallow")
    assert count.stdout == "1\n"
    await daemon.kill()


async def test_missing_upstream_and_password_have_their_own_errors(sandbox):
    path = await repository(sandbox)
    with pytest.raises(e2b.GitUpstreamException):
        await sandbox.git.pull(path)
    server = (
        "import http.server\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(401)\n"
        "        self.send_header('WWW-Authenticate', 'Basic realm=\"git\"')\n"
        "        self.send_header('Content-Length', '0')\n"
        "        self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', 8400), H).serve_forever()\n"
    )
    await sandbox.files.write("locked.py", server)
    process = await sandbox.commands.run("python3 locked.py", background=True, timeout=0)

    async def listening():
        probe = await sandbox.commands.run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8400/ || true")
        return probe.stdout == "401"

    await eventually(listening)
    with pytest.raises(e2b.GitAuthException):
        await sandbox.git.clone("http://127.0.0.1:8400/private.git", path="/home/user/private")
    await process.kill()
