"""Our own binary on a running server: results, `--json`, exit codes, streams."""

import hashlib
import json
import os
import random
import re
import subprocess
import time
import uuid

import pytest

from harness.server import own_environment

MISSING = "i" + "0" * 20


@pytest.fixture
def sandbox(soulbox, template):
    sandbox_id = soulbox("sandbox", "create", "--template", template).stdout.strip()
    yield sandbox_id
    soulbox("sandbox", "kill", sandbox_id, code=None)


def as_json(done):
    return json.loads(done.stdout)


def error_of(done):
    return json.loads(done.stderr.strip().splitlines()[-1])["error"]


def test_requests_are_shown_replaced_and_cleared(soulbox, sandbox):
    shown = soulbox("sandbox", "requests", sandbox)
    assert shown.stdout == "" and "any request" in shown.stderr
    none = {"allow": [], "perMinute": {}, "bytes": {}, "udp": []}
    allow = ["GET,HEAD api.example.com/v1/*", "* *.example.org/*"]
    given = ["--allow", "get,head API.example.com/v1/*", "--allow", "* *.example.org", "--per-minute", "*.example.com=600"]
    given += ["--sent", "*=1000", "--received", "*=2000", "--udp", "192.0.2.1:123"]
    rules = {"allow": allow, "perMinute": {"*.example.com": 600}, "bytes": {"*": {"sent": 1000, "received": 2000}}, "udp": ["192.0.2.1:123"]}
    assert as_json(soulbox("sandbox", "requests", sandbox, *given, "--json")) == rules
    shown = soulbox("sandbox", "requests", sandbox).stdout
    assert all(text in shown for text in [*allow, "*.example.com=600", "*=1000", "*=2000", "192.0.2.1:123"])
    # What is given replaces all of it.
    replaced = soulbox("sandbox", "requests", sandbox, "--per-minute", "a.example.com=1", "--json")
    assert as_json(replaced) == {**none, "perMinute": {"a.example.com": 1}}
    assert as_json(soulbox("sandbox", "requests", sandbox, "--clear", "--json")) == none
    for bad, told in [(["--allow", "anything"], "METHOD host/path"), (["--per-minute", "a.b=0"], "1 to 1000000"), (["--clear", "--allow", "GET a.b"], "cannot be used with")]:
        assert told in soulbox("sandbox", "requests", sandbox, *bad, code=2).stderr
    soulbox("sandbox", "requests", MISSING, code=3)
    soulbox("sandbox", "requests", MISSING, "--clear", code=3)


def test_create_prints_only_the_id(soulbox, template):
    done = soulbox("sandbox", "create", "--template", template)
    assert re.fullmatch(r"[a-z0-9]{21}\n", done.stdout)
    soulbox("sandbox", "kill", done.stdout.strip())
    soulbox("sandbox", "info", done.stdout.strip(), code=3)


def test_create_with_everything(soulbox, template):
    tag = uuid.uuid4().hex
    made = as_json(
        soulbox("sandbox", "create", "-t", template, "--timeout", "90s", "-e", "A=b c", "-m", f"tag={tag}", "--json")
    )
    sandbox_id = made.get("id") or made.get("sandboxID")
    assert tag in json.dumps(as_json(soulbox("sandbox", "info", sandbox_id, "--json")))
    assert soulbox("sandbox", "list", "-m", f"tag={tag}", "-q").stdout == sandbox_id + "\n"
    assert len(as_json(soulbox("sandbox", "list", "-m", f"tag={tag}", "--json"))) == 1
    assert soulbox("sandbox", "exec", sandbox_id, "--", "sh", "-c", "echo $A").stdout == "b c\n"
    soulbox("sandbox", "kill", sandbox_id)
    assert soulbox("sandbox", "list", "-m", f"tag={tag}", "-q").stdout == ""


def test_an_idempotency_key_finds_the_same_sandbox(soulbox, template):
    key = uuid.uuid4().hex
    ids = {soulbox("sandbox", "create", "-t", template, "--idempotency-key", key).stdout.strip() for _ in range(2)}
    assert len(ids) == 1
    soulbox("sandbox", "kill", *ids)


def test_exec_is_transparent(soulbox, sandbox):
    done = soulbox("sandbox", "exec", sandbox, "--", "sh", "-c", "echo out; echo err >&2; exit 42", code=42)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert soulbox("sandbox", "exec", sandbox, "--", "sort", stdin="b\na\n").stdout == "a\nb\n"
    done = soulbox("sandbox", "exec", sandbox, "-u", "root", "-C", "/tmp", "-e", "X=1 2", "--", "sh", "-c", 'echo "$(id -u) $PWD $X"')
    assert done.stdout == "0 /tmp 1 2\n"
    assert soulbox("sandbox", "exec", sandbox, "--", "printf", "%s|", "a b", "c'd", "*").stdout == "a b|c'd|*|"


def test_exec_carries_bytes_unchanged(soulbox, sandbox):
    data = random.Random(5).randbytes(2_000_000)
    command = [*soulbox.command, "sandbox", "exec", sandbox, "--", "cat"]
    done = subprocess.run(command, input=data, capture_output=True, env=soulbox.environment, timeout=60)
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_exec_time_limit_and_signals(soulbox, sandbox):
    started = time.monotonic()
    soulbox("sandbox", "exec", sandbox, "--timeout", "1s", "--", "sleep", "777", code=124)
    assert time.monotonic() - started < 30
    # Said at the limit, when it is being killed.
    while soulbox("sandbox", "exec", sandbox, "--", "sh", "-c", "pgrep -fx 'sleep 777' || true").stdout:
        assert time.monotonic() - started < 60, "still there"
    soulbox("sandbox", "exec", sandbox, "--", "sh", "-c", "kill -TERM $$", code=143)


def test_exec_says_when_its_sandbox_ended(soulbox, template):
    sandbox = soulbox("sandbox", "create", "-t", template, "--timeout", "6s").stdout.strip()
    done = soulbox("sandbox", "exec", sandbox, "--", "sh", "-c", "echo begun; sleep 60", code=3)
    assert done.stdout == "begun\n"
    assert "its timeout was over" in done.stderr and "--timeout" in done.stderr


def test_copy_files_and_directories(soulbox, sandbox, tmp_path):
    source = tmp_path / "project"
    (source / "deep").mkdir(parents=True)
    (source / "a.txt").write_text("text ☃\n")
    (source / "deep" / "b.bin").write_bytes(random.Random(6).randbytes(500_000))
    soulbox("sandbox", "cp", str(source / "a.txt"), f"{sandbox}:/home/user/")
    assert soulbox("sandbox", "exec", sandbox, "--", "cat", "/home/user/a.txt").stdout == "text ☃\n"
    soulbox("sandbox", "cp", str(source), f"{sandbox}:/home/user/project")
    soulbox("sandbox", "cp", f"{sandbox}:/home/user/project", str(tmp_path / "back"))
    assert (tmp_path / "back/deep/b.bin").read_bytes() == (source / "deep/b.bin").read_bytes()
    soulbox("sandbox", "cp", f"{sandbox}:/home/user/missing", str(tmp_path / "x"), code=3)
    soulbox("sandbox", "cp", str(tmp_path / "nowhere"), f"{sandbox}:/tmp/", code=3)


def test_logs_and_metrics(soulbox, sandbox):
    soulbox("sandbox", "exec", sandbox, "--", "true")
    assert soulbox("sandbox", "logs", sandbox).returncode == 0
    deadline = time.monotonic() + 20
    while not as_json(soulbox("sandbox", "metrics", sandbox, "--json")):
        assert time.monotonic() < deadline, "no metrics within 20 s"
        time.sleep(0.5)


def test_kill_says_what_is_missing(soulbox, sandbox):
    soulbox("sandbox", "kill", sandbox)
    soulbox("sandbox", "kill", sandbox, code=3)
    failed = error_of(soulbox("sandbox", "info", MISSING, "--json", code=3))
    assert failed["code"] == "SB-NOT-FOUND" and MISSING in failed["message"]


def test_wrong_usage_is_code_2(soulbox, template):
    soulbox("sandbox", "create", "--no-such-flag", code=2)
    soulbox("sandbox", "info", "not an id", code=2)
    soulbox("sandbox", "create", "-t", template, "--timeout", "forever", code=2)
    soulbox("no-such-command", code=2)
    assert error_of(soulbox("sandbox", "create", "-t", "no-such-template", "--json", code=3))["code"] == "SB-NOT-FOUND"


def test_keys_live_and_die(soulbox):
    name = f"test-{uuid.uuid4().hex[:8]}"
    made = as_json(soulbox("key", "create", name, "--json"))
    plain = made.get("key") or made.get("plain")
    assert re.fullmatch(r"e2b_[0-9a-f]{40}", plain)
    listing = soulbox("key", "list").stdout
    assert name in listing and plain not in listing
    soulbox("sandbox", "list", "--api-key", plain)
    soulbox("key", "revoke", made["id"])
    deadline = time.monotonic() + 10
    while (failed := soulbox("sandbox", "list", "--api-key", plain, "--json", code=None)).returncode != 4:
        assert time.monotonic() < deadline, "a server learns of it within a second"
    assert error_of(failed)["code"] == "SB-AUTH"
    soulbox("key", "revoke", str(uuid.uuid4()), code=3)


def test_templates_are_listed(soulbox):
    names = [t["name"] for t in as_json(soulbox("template", "list", "--json"))]
    assert "base" in names and "host" in names


def test_no_server_is_code_5(soulbox, tmp_path):
    done = soulbox("sandbox", "list", "--data-dir", str(tmp_path), code=None)
    assert done.returncode in (4, 5), done.stderr
    done = soulbox("sandbox", "list", "--api-url", "http://127.0.0.1:9", "--json", code=5)
    assert error_of(done)["code"] == "SB-UNREACHABLE"


def test_environment_for_clients(soulbox):
    names = {"E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN", "E2B_API_KEY"}
    assert names <= set(as_json(soulbox("env", "--json")))
    shell = subprocess.run(
        ["sh", "-c", soulbox("env").stdout + '\nprintf %s "$E2B_API_KEY"'], capture_output=True, text=True
    )
    assert shell.stdout.startswith("e2b_")


def test_doctor_and_help(soulbox):
    doctor = soulbox("doctor", "--json", code=None)
    assert doctor.returncode in (0, 1)
    assert json.loads(doctor.stdout)
    for command in (["--help"], ["sandbox", "exec", "--help"], ["serve", "--help"]):
        assert "Examples:" in soulbox(*command).stdout
    assert "complete" in soulbox("completions", "bash").stdout


def test_output_is_plain_when_it_is_no_terminal(soulbox, sandbox):
    for command in (["sandbox", "list"], ["sandbox", "info", sandbox], ["key", "list"], ["template", "list"], ["doctor"]):
        done = soulbox(*command, code=None)
        assert "\x1b" not in done.stdout + done.stderr, command


def test_bench_reports_its_ratio(soulbox, template):
    for what in ("create", "exec"):
        report = as_json(soulbox("bench", what, "-n", "10", "-t", template, "--json", timeout=120))
        assert "floor" in json.dumps(report)


def test_bench_network_says_what_it_needs_of_the_server(soulbox, template):
    done = soulbox("bench", "network", "-n", "1", "-t", template, "--json", code=None, timeout=60)
    assert done.returncode != 0 and "--allow-private-egress" in done.stderr


def test_bench_network_on_a_server_of_its_own(tmp_path):
    command = [os.environ["SOULBOX_BIN"], "bench", "network", "-n", "50", "--rounds", "2", "--size", "64", "--idle", "100", "-t", "host", "--json"]
    done = subprocess.run([*command, "--data-dir", tmp_path / "none"], capture_output=True, text=True, env=own_environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert len(report["rows"]) == 4 and report["temporary_server"]
    for flows in ("one flow", "50 flows"):
        through = figures[f"{flows}, through"]
        assert 0.1 < through["ratio_spread"]["min"] <= through["ratio"] <= through["ratio_spread"]["max"]
        assert through["spread"]["min"] <= through["value"] <= through["spread"]["max"]
        assert "ratio" not in figures[f"{flows}, direct"]
    assert figures["server's memory for each idle flow"]["value"] < 64

