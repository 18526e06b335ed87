"""The unmodified `@e2b/cli` against our server."""

import json
import time
import uuid

import pytest

from harness.program import Program


@pytest.fixture
def sandbox(e2b, template):
    sandbox_id = created_id(e2b("sandbox", "create", "-d", template))
    yield sandbox_id
    e2b("sandbox", "kill", sandbox_id, code=None)


def created_id(done):
    """The only word of the answer that has the shape of a sandbox ID."""
    return next(word for word in done.stdout.split() if word.isalnum() and len(word) == 21)


def listed(e2b):
    return json.loads(e2b("sandbox", "list", "-f", "json").stdout)


def test_create_list_info_kill(e2b, template):
    sandbox_id = created_id(e2b("sandbox", "create", "-d", "--timeout", "90", template))
    [entry] = [s for s in listed(e2b) if s["sandboxId"] == sandbox_id]
    assert entry["state"] == "running"
    assert template in (entry.get("templateId"), entry.get("name"))
    info = json.loads(e2b("sandbox", "info", "-f", "json", sandbox_id).stdout)
    assert info["sandboxId"] == sandbox_id and info["memoryMB"] > 0
    assert "has been killed" in e2b("sandbox", "kill", sandbox_id).stdout
    assert sandbox_id not in [s["sandboxId"] for s in listed(e2b)]
    again = e2b("sandbox", "kill", sandbox_id)
    assert "wasn't found" in again.stdout + again.stderr


def test_exec_passes_streams_and_code(e2b, sandbox):
    done = e2b("sandbox", "exec", sandbox, "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert done.stdout == "out\n"
    assert "err\n" in done.stderr


def test_exec_takes_input_user_directory_and_environment(e2b, sandbox):
    assert e2b("sandbox", "exec", sandbox, "sort", stdin="b\na\n").stdout == "a\nb\n"
    done = e2b("sandbox", "exec", "-u", "root", "-c", "/tmp", "-e", "WORD=hi you", sandbox, "sh", "-c", 'echo "$(id -un) $PWD $WORD"')
    assert done.stdout == "root /tmp hi you\n"


def test_exec_in_the_background(e2b, sandbox):
    done = e2b("sandbox", "exec", "-b", sandbox, "sleep", "300")
    pid = "".join(c for c in done.stderr if c.isdigit())
    assert pid
    # What was started becomes `sleep` a moment later.
    deadline = time.monotonic() + 20
    while not (found := e2b("sandbox", "exec", sandbox, "pgrep", "-x", "sleep", code=None).stdout.strip()):
        assert time.monotonic() < deadline
    assert found in done.stderr


def test_lists_by_metadata_and_state(e2b, sandbox):
    word = uuid.uuid4().hex
    assert json.loads(e2b("sandbox", "list", "-m", f"none={word}", "-f", "json").stdout) == []
    assert sandbox not in e2b("sandbox", "list", "-s", "paused").stdout
    assert sandbox in e2b("sandbox", "list").stdout


def test_metrics_and_logs_are_readable(e2b, sandbox):
    e2b("sandbox", "exec", sandbox, "true")
    e2b("sandbox", "metrics", "--format", "json", sandbox)
    logs = e2b("sandbox", "logs", "--level", "DEBUG", "--format", "json", sandbox)
    lines = [json.loads(line) for line in logs.stdout.splitlines() if line]
    assert any(line["message"] == "process started" for line in lines)
    assert all(line["level"] and line["timestamp"] for line in lines)


def test_what_is_not_there(e2b):
    missing = e2b("sandbox", "info", "i" + "0" * 20, code=1)
    assert "wasn't found" in missing.stdout + missing.stderr
    failed = e2b("sandbox", "create", "-d", "no-such-template", code=1)
    assert "no-such-template" in failed.stdout + failed.stderr


def test_a_wrong_key(e2b):
    wrong = Program(e2b.command, {**e2b.environment, "E2B_API_KEY": "e2b_" + "0" * 40})
    failed = wrong("sandbox", "list", code=None)
    assert failed.returncode != 0


def test_kill_all_with_a_filter(e2b, sandbox):
    word = uuid.uuid4().hex
    e2b("sandbox", "kill", "--all", "-m", f"only={word}", code=None)
    assert sandbox in [s["sandboxId"] for s in listed(e2b)]
