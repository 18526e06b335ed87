"""How projects and commands in them end: by themselves, by Ctrl-C, out of time or memory; what is told, and what stays."""

import json
import signal
import socket
import subprocess
import time

import pytest
from conftest import TEMPLATE, needs_base


def begin(soulbox, *arguments):
    command = [*soulbox.command, *map(str, arguments)]
    return subprocess.Popen(command, env=soulbox.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def project(up, tmp_path):
    """A directory with a project in it; `up` takes it down."""
    return tmp_path


def test_ctrl_c_ends_an_up_that_waits(soulbox, project):
    process = begin(soulbox, "up", "-d", "--project", project, "--set", 'commands.ready=["false"]', "--wait", "60s")
    deadline = time.monotonic() + 30
    while not soulbox.json("ps", "--project", project):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert soulbox.json("ps", "--project", project) == []


@pytest.mark.parametrize("what", ["up", "run", "test"])
def test_whenever_ctrl_c_comes_no_sandbox_is_left(soulbox, project, what):
    sets = ["--set", 'commands.ready=["false"]'] if what != "test" else ["--set", 'commands.test=["sleep", "60"]']
    detach = ["-d"] if what == "up" else []
    for delay in range(0, 200, 10):
        process = begin(soulbox, what, *detach, "--project", project, *sets)
        time.sleep(delay / 1000)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        # Before it listens, the signal itself ends it.
        assert process.returncode in (130, -signal.SIGINT), delay
        assert soulbox.json("ps", "--project", project) == [], delay


def test_a_command_that_ends_at_once_is_not_ready(up, soulbox, project):
    error = json.loads(up('commands.start=["sh", "-c", "echo bye; exit 5"]', code=1).told)["error"]
    assert "ended with 5" in error["message"] and "bye" in error["message"]
    assert soulbox.json("ps", "--project", project) == []
    missing = soulbox("run", "--project", project, "--set", 'commands.start=["no-such-program"]', code=127)
    assert "is ready" not in missing.stderr and "no-such-program" in missing.stderr
    # What has done its work may leave something running.
    assert up('commands.start=["true"]').told["project"] == "probe"


def test_two_ups_at_once_start_one_sandbox(soulbox, project):
    listens = ["--set", 'commands.ready=["test", "-e", "/tmp/up"]', "--set", 'commands.start=["sh", "-c", "sleep 1; touch /tmp/up; sleep 300"]']
    both = [begin(soulbox, "up", "-d", "--project", project, *listens, "--json") for _ in range(2)]
    told = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    first, second = (json.loads(out) for out, _ in told)
    assert first["sandbox_id"] == second["sandbox_id"]
    assert len(soulbox.json("ps", "--project", project)) == 1
    # It was ready for both.
    assert sorted(one["ready_ms"] is None for one in (first, second)) == [False, True]
    soulbox("down", "--project", project)
    # One that was killed holds up nobody.
    process = begin(soulbox, "up", "-d", "--project", project, "--set", 'commands.ready=["false"]')
    time.sleep(0.5)
    process.kill()
    process.communicate(timeout=10)
    soulbox("down", "--project", project)
    soulbox("up", "-d", "--project", project, timeout=20)


def test_what_has_ended_since_is_told(up, soulbox, project):
    run = up('commands.start=["sh", "-c", "echo said; until [ -e /tmp/go ]; do sleep 0.1; done; exit 5"]')
    assert soulbox.json("ps", "--project", project)[0]["exit_code"] is None
    # Ends with the command, though the sandbox goes on.
    follower = begin(soulbox, "logs", "-f", "--project", project)
    assert follower.stdout.readline() == "said\n"
    run("touch", "/tmp/go")
    assert follower.communicate(timeout=20)[0] == "soulbox: the command ended with 5\n" and follower.returncode == 0
    assert soulbox.json("ps", "--project", project)[0]["exit_code"] == 5
    assert "exited 5" in soulbox("ps", "--project", project).stdout
    again = soulbox("up", "-d", "--project", project, code=1)
    assert "ended with 5" in again.stderr and "soulbox down" in again.stderr


def test_logs_have_a_json_form(up, soulbox, project):
    up('commands.start=["sh", "-c", "echo one; echo two; sleep 300"]')
    deadline = time.monotonic() + 20
    while (told := soulbox.json("logs", "--project", project)) != [{"line": "one"}, {"line": "two"}]:
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def test_logs_of_a_run_say_who_shows_them(soulbox, project):
    process = begin(soulbox, "run", "--project", project, "--json")
    try:
        process.stdout.readline()
        assert "soulbox run" in soulbox("logs", "--project", project, code=3).stderr
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def test_the_end_of_a_sandbox_is_no_server_that_does_not_answer(up, soulbox, project):
    late = ["--project", project, "--set", "resources.timeout=6s"]
    done = soulbox("run", *late, code=3)
    assert "ends after 6s" in done.stderr, "it was announced"
    assert "its timeout was over" in done.stderr and "resources.timeout" in done.stderr
    up("resources.timeout=6s")
    assert "its timeout was over" in soulbox("exec", "--project", project, "--", "sleep", "60", code=3).stderr
    up()
    process = begin(soulbox, "exec", "--project", project, "--", "sh", "-c", "echo begun; sleep 60")
    assert process.stdout.readline() == "begun\n"
    soulbox("down", "--project", project)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 3 and "killed on request" in err


def test_a_lack_of_memory_is_told(soulbox, project):
    hungry = ["--project", project, "--set", "resources.memory=128MB", "--set"]
    eats = '=["python3", "-c", "x = b\'x\' * 400_000_000"]'
    done = soulbox("run", *hungry, f"commands.start{eats}", code=137)
    assert "resources.memory" in done.stderr and "kernel killed" in done.stderr
    done = soulbox("test", *hungry, f"commands.test{eats}", code=137)
    assert "kernel killed" in done.stderr


def test_a_command_in_a_project_gets_input_and_a_time_limit(up, soulbox, project):
    run = ["exec", "--project", project]
    up()
    assert soulbox(*run, "--", "cat", stdin="typed").stdout == "typed"
    began = time.monotonic()
    soulbox(*run, "--timeout", "500ms", "--", "sleep", "30", code=124)
    assert time.monotonic() - began < 20
    assert soulbox(*run, "--timeout", "0", "--", "echo", "0 is none").stdout == "0 is none\n"
    done = soulbox(*run, "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 4", code=4)
    told = json.loads(done.stdout)
    assert (told["exit_code"], told["stdout"], told["stderr"]) == (4, "out\n", "err\n")
    assert "/dev/pts/" in soulbox(*run, "-t", "--", "tty").stdout
    assert "soulbox exec -- ls" in soulbox("exec", "ls", code=2).stderr


@needs_base
def test_no_time_limit_is_none_for_code_either(soulbox):
    code = "import time; time.sleep(1); print('slept')"
    assert soulbox("exec", "--runtime", "python", "--timeout", "0", "-e", code).stdout == "slept\n"


def test_a_test_has_a_json_form_and_says_what_it_did_not_write(soulbox, project):
    run = ["--project", project, "--set"]
    wrote = soulbox("test", *run, 'commands.test=["sh", "-c", "echo x > out.xml"]', "--keep", "out.xml", "--json")
    told = json.loads(wrote.stdout)
    assert (told["project"], told["exit_code"], told["kept"]) == ("probe", 0, ["out.xml"])
    lost = soulbox("test", *run, 'commands.test=["true"]', "--keep", "no.xml", code=3)
    assert "wrote no such file" in lost.stderr and "sandbox list" not in lost.stderr
    assert not [path for path in project.iterdir() if path.name.startswith("no.xml")]
    assert "commands.test" in soulbox("test", "--project", project, code=2).stderr


def test_what_is_kept_is_said_file_by_file(soulbox, project):
    test = 'commands.test=["sh", "-c", "mkdir a b; touch ran; echo a > a/junit.xml; echo b > b/junit.xml"]'
    run = ["test", "--project", project, "--set", test, "--json"]

    def keep(*files, code):
        return soulbox(*run, *(word for file in files for word in ("--keep", file)), code=code)

    same = json.loads(keep("ran", "a/junit.xml", "b/junit.xml", code=2).stderr)["error"]
    assert same["code"] == "SB-INVALID" and "a/junit.xml" in same["message"] and "b/junit.xml" in same["message"]
    assert not (project / "ran").exists(), "nothing was run"
    for no_file in ("a/..", "a/.", "a/"):
        assert "not a file's name" in keep(no_file, code=2).stderr
    some = keep("a/junit.xml", "missing.xml", "ran", "ran", code=3)
    assert json.loads(some.stdout)["kept"] == ["a/junit.xml", "ran"]
    assert "missing.xml" in some.stderr and (project / "junit.xml").read_text() == "a\n" and (project / "ran").exists()


def test_sockets_are_not_copied_and_no_reason_to_fail(up, soulbox, project):
    (project / "a b\nc").write_text("odd")
    (project / b"not-\xff-utf-8".decode(errors="surrogateescape")).write_text("bytes")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(project / "app.sock"))
        done = soulbox("test", "--project", project, "--set", 'commands.test=["ls", "-b"]')
    assert "not copied: app.sock" in done.stderr
    assert done.stdout.split("\n")[:-1] == ["a\\ b\\nc", "not-\\377-utf-8", "soulbox.toml"]


def test_a_project_that_is_larger_than_its_disk_is_told(soulbox, project):
    (project / "big").write_bytes(b"x" * 8_000_000)
    done = soulbox("up", "-d", "--project", project, "--set", "resources.disk=2MB", code=1)
    assert "disk of the sandbox is full" in done.stderr and "resources.disk" in done.stderr
    assert soulbox.json("ps", "--project", project) == []
