"""Projects: what each key of soulbox.toml does in a real sandbox, and what is told when one goes wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from conftest import EXAMPLES, PROJECT, TEMPLATE, needs_base

from harness.program import Program


def fetch(url):
    """Names below localhost lead to this machine, whatever its resolver says of them."""
    host = re.match(r"http://([^/:]+):(\d+)/", url)
    address = f"http://127.0.0.1:{host[2]}/"
    return httpx.get(address, headers={"Host": f"{host[1]}:{host[2]}"}, timeout=10)


def test_up_ps_logs_exec_down(up, soulbox, tmp_path):
    run = up('commands.start=["sh", "-c", "echo said; sleep 300"]')
    [row] = soulbox.json("ps", "--project", tmp_path)
    assert row["sandbox_id"] == run.told["sandbox_id"] and row["project"] == "probe"
    assert run("pwd").stdout == "/home/user/app\n"
    assert "soulbox.toml" in run("ls").stdout
    run("sh", "-c", "exit 9", code=9)
    assert soulbox("logs", "--project", tmp_path).stdout == "said\n"
    assert up().told["sandbox_id"] == row["sandbox_id"], "what is up is left alone"
    soulbox("down", "--project", tmp_path)
    assert soulbox.json("ps", "--project", tmp_path) == []
    soulbox("exec", "--project", tmp_path, "--", "true", code=3)


def test_git_stays_outside_and_links_are_copied_as_links(up, tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("secret")
    (tmp_path / "link").symlink_to("/etc/shadow")
    run = up()
    assert ".git" not in run("ls", "-A").stdout.split()
    assert run("readlink", "link").stdout == "/etc/shadow\n"
    run("sh", "-c", "grep -q '^root:[*!]' /etc/shadow || ! cat link")


def test_environment_is_set_and_secrets_are_filled_in(up, soulbox):
    soulbox("secret", "set", "probe_secret", stdin="hidden")
    try:
        run = up("environment.PLAIN=a $$b", "environment.HIDDEN=x-$PROBE_SECRET")
        assert run("sh", "-c", "echo \"$PLAIN,$HIDDEN\"").stdout == "a $b,x-hidden\n"
    finally:
        soulbox("secret", "rm", "probe_secret")


def test_a_missing_secret_is_named(up):
    assert "soulbox secret set no_such_secret" in up("environment.A=$NO_SUCH_SECRET", code=None).told


def test_cpu_is_what_the_key_says(up):
    run = up("resources.cpu=0.5")
    burn = "import time\nt = time.time()\nwhile time.time() - t < 2: pass\nprint(time.process_time() / 2)"
    share = float(run("python3", "-c", burn).stdout)
    # Less where others want the processors, too; without the limit it would be all of one.
    assert 0.1 < share < 0.6


def test_memory_is_what_the_key_says(up):
    run = up("resources.memory=128MB")
    run("python3", "-c", "x = b'x' * 60_000_000")
    assert run("python3", "-c", "x = b'x' * 200_000_000", code=None).returncode != 0
    # Another one of the same project is none the worse.
    assert run("echo", "alive").stdout == "alive\n"


def test_disk_is_what_the_key_says(up):
    run = up("resources.disk=30MB")
    done = run("sh", "-c", "head -c 100000000 /dev/zero > big", code=None)
    assert done.returncode != 0 and re.search("No space|quota exceeded", done.stderr)
    assert 10_000_000 < int(run("stat", "-c", "%s", "big").stdout) <= 31_000_000


@pytest.mark.parametrize("allowed", [False, True])
def test_internet_is_allowed_or_not_as_the_key_says(up, soulbox, allowed):
    """What that means for a program is asked by `tests/network`."""
    run = up(f"network.allow_internet={str(allowed).lower()}")
    assert soulbox.json("sandbox", "info", run.told["sandbox_id"])["allowInternetAccess"] is allowed


TWO = """
import sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"port %d" % self.server.server_port)
servers = [ThreadingHTTPServer(("0.0.0.0", port), Handler) for port in (8081, 8082)]
threading.Thread(target=servers[0].serve_forever).start()
servers[1].serve_forever()
"""


def of_port(url, port):
    return re.sub(r"//\d+-", f"//{port}-", url)


@pytest.mark.parametrize("ports", [[8081], [8082, 8081], []])
def test_listed_ports_are_reached_and_no_others(up, soulbox, tmp_path, ports):
    (tmp_path / "two.py").write_text(TWO)
    inside = "import socket; [socket.create_connection(('127.0.0.1', port), 2) for port in (8081, 8082)]"
    run = up(
        f"network.ports={json.dumps(ports)}",
        'commands.start=["python3", "two.py"]',
        f"commands.ready={json.dumps(['python3', '-c', inside])}",
    )
    told = run.told["urls"]
    assert [int(re.search(r"//(\d+)-", url)[1]) for url in told] == ports
    any_url = soulbox.json("sandbox", "url", run.told["sandbox_id"], "8081")["url"] if 8081 in ports else None
    if any_url is None:
        refused = soulbox("sandbox", "url", run.told["sandbox_id"], "8081", code=3).stderr
        assert "port 8081 is not exposed" in refused
        any_url = f"http://8081-{run.told['sandbox_id']}.localhost:{os.environ['E2B_API_URL'].rsplit(':', 1)[1]}/"
    for port in (8081, 8082):
        answer = fetch(of_port(any_url, port))
        if port in ports:
            assert (answer.status_code, answer.text) == (200, f"port {port}")
        else:
            assert answer.status_code == 403 and answer.json()["exposedPorts"] == ports
    assert run("echo", "in").stdout == "in\n", "the agent is reached as ever"


def test_domains_lead_to_the_first_port(up, soulbox, tmp_path):
    (tmp_path / "index.html").write_text("the shop")
    listens = "import socket; socket.create_connection(('127.0.0.1', 8081), 2)"
    up_again = up(
        "network.ports=[8081, 8082]",
        "network.domains=shop.example,www.shop.example",
        'commands.start=["python3", "-m", "http.server", "8081"]',
        f"commands.ready={json.dumps(['python3', '-c', listens])}",
    )
    first, *_, shop, www = up_again.told["urls"]
    port = re.search(r":(\d+)/", first)[1]
    assert (shop, www) == (f"http://shop.example:{port}/", f"http://www.shop.example:{port}/")
    assert fetch(shop).text == fetch(first).text == "the shop"
    assert up().told["urls"][-2:] == [shop, www], "what is up is told of in full"
    soulbox("down", "--project", tmp_path)
    assert fetch(shop).text != "the shop"


def test_a_domain_of_another_sandbox_starts_nothing(up, soulbox, sandbox_of, api):
    holder = sandbox_of(TEMPLATE).id
    body = {"domains": ["taken.example"], "port": 80}
    assert api.http.put(f"/soulbox/v1/sandboxes/{holder}/domains", json=body).status_code == 204
    before = soulbox("sandbox", "list", "-q").stdout
    told = up("network.ports=8081", "network.domains=free.example,taken.example", code=None).told
    assert "taken.example" in told and "another name" in told
    assert soulbox("sandbox", "list", "-q").stdout == before


def test_timeout_ends_it(up, soulbox, tmp_path):
    up("resources.timeout=5s")
    deadline = time.monotonic() + 25
    while soulbox.json("ps", "--project", tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_setuid_gains_nothing_unless_sudo_is_allowed(up, soulbox, tmp_path):
    run = up()
    assert run("sudo", "-n", "id", "-u", code=None).returncode != 0
    copied = "cp /usr/bin/id /tmp/id; chmod u+s /tmp/id; /tmp/id -u"
    assert run("sh", "-c", copied).stdout == "1000\n"
    soulbox("down", "--project", tmp_path)
    assert up("security.allow_sudo=true")("sudo", "-n", "id", "-u").stdout == "0\n"


def test_read_only_leaves_tmp_and_run(up):
    run = up("security.read_only=true")
    for path in ("/x", "/home/user/x", "/etc/x", "/var/tmp/x"):
        run("sh", "-c", f"touch {path}", code=1)
    run("sh", "-c", "touch /tmp/x /run/x soulbox.toml")
    assert "soulbox.toml" in run("ls").stdout


@pytest.mark.parametrize(
    "key, words",
    [
        ("template.base_image=python:3.11-slim", "image"),
        ("template.build_args.MODE=debug", "build_args"),
        ("security.allow_docker=true", "nested"),
        ("template.python_version=2.7", "Python 2.7"),
        ("template.base_image=nobody-has-this", "not found"),
        ("resources.cpu=1000", "cores"),
        ("resources.cpuu=1", "cpu"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(up, soulbox, key, words):
    before = soulbox("sandbox", "list", "-q").stdout
    assert words in up(key, code=None).told
    assert soulbox("sandbox", "list", "-q").stdout == before


def test_cores_are_those_of_the_server(up, soulbox, tmp_path):
    up()
    soulbox("down", "--project", tmp_path)
    address = soulbox.json("env")["E2B_API_URL"]
    run = ["--project", tmp_path, "--set", "resources.cpu=1000"]
    here = soulbox("config", "check", *run, code=2)
    assert "cores of this host" in here.stderr
    # Of another machine's nothing is known here: the server says it, and in the words of the file.
    there = ["--api-url", address, "--api-key", os.environ["E2B_API_KEY"]]
    elsewhere = Program([os.environ["SOULBOX_BIN"], *there], soulbox.environment)
    elsewhere("config", "check", *run)
    told = json.loads(elsewhere("up", "-d", *run, "--json", code=2).stderr)["error"]
    assert told["message"].startswith("resources.cpu: must be 10 to ") and "this machine has" in told["message"]
    assert soulbox.json("ps", "--project", tmp_path) == []


def test_the_limits_of_the_file_are_those_of_the_server(up, soulbox, tmp_path):
    up("resources.timeout=24h")
    [row] = soulbox.json("ps", "--project", tmp_path)
    life = datetime.fromisoformat(row["end_at"]) - datetime.fromisoformat(row["started_at"])
    assert life == timedelta(hours=24)
    soulbox("down", "--project", tmp_path)
    refused = up("resources.timeout=86401s", code=2).told
    assert "resources.timeout" in refused and "24h" in refused
    assert "at least 10m" in up("resources.cpu=9m", code=2).told
    assert "32 at most" in up("network.ports=80", f"network.domains={','.join(f'a{n}.example' for n in range(33))}", code=2).told


def test_a_start_that_ends_and_a_ready_that_never_comes_are_told(up, soulbox, tmp_path):
    ready = 'commands.ready=["sh", "-c", "echo not yet; exit 7"]'
    told = up(ready, 'commands.start=["sh", "-c", "echo bye; exit 5"]', code=1).told
    assert "ended with 5" in told
    # The limit cuts one of these off, which then says nothing.
    slow = 'commands.ready=["sh", "-c", "sleep 0.1; echo not yet; exit 7"]'
    done = soulbox("run", "--project", tmp_path, "--set", slow, "--wait", "1s", code=1)
    assert "it last ended with 7 and said: not yet" in done.stderr
    hangs = 'commands.ready=["sh", "-c", "echo waits; sleep 60"]'
    done = soulbox("run", "--project", tmp_path, "--set", hangs, "--wait", "1s", code=1)
    assert "did not end by itself and said: waits" in done.stderr
    done = soulbox("run", "--project", tmp_path, "--set", 'commands.start=["sh", "-c", "echo bye; exit 5"]', code=5)
    assert done.stdout == "bye\n"
    soulbox("run", "--project", tmp_path / "nowhere", code=None)
    assert soulbox.json("ps", "--project", tmp_path) == []


def test_a_port_that_is_in_use_inside_is_told(up, soulbox, tmp_path):
    (tmp_path / "twice.sh").write_text(
        "python3 -m http.server 8081 & \n"
        "until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8081), 2)'; do sleep 0.05; done 2>/dev/null\n"
        "exec python3 -m http.server 8081\n"
    )
    twice = ["network.ports=[8081]", 'commands.start=["sh", "twice.sh"]', 'commands.ready=["false"]']
    error = json.loads(up(*twice, code=1).told)["error"]
    assert "ended with 1 before the project was ready" in error["message"]
    assert "Address already in use" in error["message"]
    assert soulbox.json("ps", "--project", tmp_path) == []


@pytest.mark.parametrize("mode, code, words", [(0o644, 126, "ermission denied"), (0o755, 0, "")])
def test_a_start_file_is_one_that_may_be_executed(up, soulbox, tmp_path, mode, code, words):
    up()
    soulbox("down", "--project", tmp_path)
    start = tmp_path / "start.sh"
    start.write_text("#!/bin/sh\necho started\n")
    start.chmod(mode)
    done = soulbox("run", "--project", tmp_path, "--set", 'commands.start=["./start.sh"]', code=code)
    assert done.stdout == ("started\n" if mode & 0o111 else "")
    assert words in done.stderr and ("./start.sh" in done.stderr or not words)
    assert soulbox.json("ps", "--project", tmp_path) == []


@pytest.fixture
def nobodys(soulbox):
    """What the client says to somebody who may read nothing of ours, in a directory that all can reach."""
    binary = os.open(os.environ["SOULBOX_BIN"], os.O_RDONLY)
    address = soulbox.json("env")["E2B_API_URL"]
    there = ["--api-url", address, "--api-key", os.environ["E2B_API_KEY"]]

    def run(*arguments, code):
        done = subprocess.run(
            [f"/proc/self/fd/{binary}", *there, *map(str, arguments), "--json"],
            env=soulbox.environment, cwd="/", user=65534, group=65534, extra_groups=[], pass_fds=[binary],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        run.directory = Path(directory)
        yield run
    os.close(binary)


@pytest.mark.parametrize("what", ["up", "run", "test"])
def test_a_project_that_cannot_be_read_is_told_and_leaves_nothing(soulbox, nobodys, what):
    before = soulbox("sandbox", "list", "-q").stdout
    project = nobodys.directory / "project"
    project.mkdir()
    (project / "soulbox.toml").write_text(PROJECT.format(template=TEMPLATE) + 'test = ["true"]\n')
    detach = ["-d"] if what == "up" else []

    def refused(path, mode):
        was = path.stat().st_mode
        path.chmod(mode)
        error = json.loads(nobodys(what, *detach, "--project", project, code=1).stderr)["error"]
        path.chmod(was)
        assert str(path) in error["message"] and "ermission denied" in error["message"], error
        return error

    refused(project / "soulbox.toml", 0o600)
    refused(project, 0o700)
    (project / "inner").mkdir()
    refused(project / "inner", 0o700)
    (project / "inner/secret").write_text("s")
    refused(project / "inner/secret", 0o600)
    assert soulbox("sandbox", "list", "-q").stdout == before
    nobodys("test", "--project", project, code=0)


@needs_base
def test_run_serves_the_page_of_an_example_until_it_is_interrupted(soulbox):
    soulbox("test", "--project", EXAMPLES / "web-python", timeout=170)
    command = [*soulbox.command, "run", "--project", str(EXAMPLES / "web-python"), "--json"]
    process = subprocess.Popen(command, env=soulbox.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        told = json.loads(process.stdout.readline())
        assert fetch(told["urls"][0]).text == "hello from a sandbox\n"
        assert told["ready_ms"] < 10_000, "what it depends on is there since the test"
        assert fetch(of_port(told["urls"][0], 8001)).status_code == 403
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert soulbox.json("ps", "--project", EXAMPLES / "web-python") == []


EXAMPLE_DIRECTORIES = sorted(path.parent for path in EXAMPLES.glob("*/soulbox.toml"))


@needs_base
@pytest.mark.parametrize("example", EXAMPLE_DIRECTORIES, ids=lambda path: path.name)
def test_examples_pass_their_own_tests_and_get_ready(soulbox, example, tmp_path):
    copy = tmp_path / example.name
    shutil.copytree(example, copy)
    soulbox("test", "--project", copy, timeout=170)
    told = json.loads(soulbox("up", "-d", "--project", copy, "--json").stdout)
    try:
        for url in told["urls"]:
            assert fetch(url).status_code == 200
    finally:
        soulbox("down", "--project", copy)


@needs_base
def test_a_result_of_a_test_is_kept_on_request(soulbox, tmp_path):
    shutil.copytree(EXAMPLES / "web-python", tmp_path / "p")
    write = 'commands.test=["sh", "-c", "echo result > out.xml; exit 4"]'
    soulbox("test", "--project", tmp_path / "p", "--set", write, "--keep", "out.xml", code=4)
    assert (tmp_path / "p/out.xml").read_text() == "result\n"
